/** Large Infos are held as bytes while nobody looks at them. */
import { countKept } from '@redis-stream-client/test/support/collect-garbage'
import { describe, expect, it } from 'vitest'
import type { Connection } from '../src/redis/connection.js'
import { LARGE_MESSAGE_BYTES } from '../src/redis/large-message.js'
import { isReadable, Lbs, type ReadableEntry } from '../src/redis/lbs.js'
import { LBS_FIELD, resolveServiceKeys } from '../src/service-keys.js'

const lbs = new Lbs({} as Connection, resolveServiceKeys('orders', { onCluster: false }))

async function read(info: string): Promise<ReadableEntry['message']> {
  const text = `{"DataStreamName":"s","Info":${info}}`
  const [entry] = await lbs.decode([[Buffer.from('1-1'), [Buffer.from(LBS_FIELD), Buffer.from(text)]]])
  if (entry === undefined || !isReadable(entry)) throw new Error(`unreadable: ${JSON.stringify(entry)}`)
  return entry.message
}

/** Of the Info as it is now; looking at it in a function of its own leaves no reference behind. */
function look(message: ReadableEntry['message']): { text: string; ref: WeakRef<object> } {
  const info = message.info ?? {}
  expect(message.info).toBe(info)
  return { text: JSON.stringify(info), ref: new WeakRef(info) }
}

describe('a large Info', () => {
  const padding = 'x'.repeat(LARGE_MESSAGE_BYTES)
  const info = `{"id":1453972365124935681,"padding":"${padding}"}`
  const asRead = `{"id":"1453972365124935681","padding":"${padding}"}`

  it('is let go when nobody holds it, and read again when somebody looks', async () => {
    const message = await read(info)
    const first = look(message)
    expect(first.text).toBe(asRead)
    await expect.poll(() => countKept([first.ref])).toBe(0)
    expect(look(message).text).toBe(asRead)
  })

  it('stays the same object while somebody holds it', async () => {
    const message = await read(info)
    const held = message.info ?? {}
    expect(await countKept([new WeakRef(held)])).toBe(1)
    expect(message.info).toBe(held)
  })

  it('is no other than a small one to look at', async () => {
    expect((await read(info)).dataStreamName).toBe('s')
    expect(look(await read('{"n":1}')).text).toBe('{"n":1}')
  })
})
