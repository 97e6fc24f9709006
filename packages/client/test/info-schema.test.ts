/** What becomes of entries whose schema does not answer, or answers nonsense. */
import type { StandardSchema } from '@redis-stream-client/notifs'
import { describe, expect, it } from 'vitest'
import { CallOrder } from '../src/async/call-order.js'
import { InfoSchema } from '../src/info-schema.js'
import type { Connection } from '../src/redis/connection.js'
import { Lbs } from '../src/redis/lbs.js'
import { LBS_FIELD, resolveServiceKeys } from '../src/service-keys.js'

function schemaOf(validate: (value: unknown) => unknown, timeoutMs: number): InfoSchema {
  const schema = { '~standard': { version: 1, vendor: 'test', validate } } as unknown as StandardSchema
  return new InfoSchema(schema, { timeoutMs })
}

function entry(name: string): [Buffer, Buffer[]] {
  const text = `{"DataStreamName":"${name}","Info":{"name":"${name}"}}`
  return [Buffer.from('1-1'), [Buffer.from(LBS_FIELD), Buffer.from(text)]]
}

function lbs(infoSchema: InfoSchema): Lbs {
  return new Lbs({} as Connection, resolveServiceKeys('orders', { onCluster: false }), {
    ...{ maxNameBytes: 100, maxInfoBytes: 100, infoNumbers: 'text', onIntegerAsText: () => undefined },
    infoSchema,
  })
}

describe('a schema', () => {
  it('that never answers costs its entry, and no other', async () => {
    const silent = (value: unknown): unknown =>
      (value as { name: string }).name === 'a' ? new Promise(() => undefined) : { value: 'fits' }
    const entries = await lbs(schemaOf(silent, 20)).decode([entry('a'), entry('b')])
    expect(entries).toMatchObject([
      {
        problem: 'Info was not checked: infoSchema has not answered within 20 ms',
        refused: { dataStreamName: 'a', reason: 'info-invalid' },
      },
      { message: { dataStreamName: 'b', checkedInfo: { value: 'fits' } } },
    ])
  })

  it('has all entries of a read in hand at once', async () => {
    const answers: ((result: unknown) => void)[] = []
    const decoding = lbs(schemaOf(() => new Promise((resolve) => answers.push(resolve)), 60_000)).decode([
      entry('a'),
      entry('b'),
    ])
    await expect.poll(() => answers.length).toBe(2)
    answers[1]?.({ value: 2 })
    answers[0]?.({ value: 1 })
    expect(await decoding).toMatchObject([
      { message: { dataStreamName: 'a', checkedInfo: { value: 1 } } },
      { message: { dataStreamName: 'b', checkedInfo: { value: 2 } } },
    ])
  })

  it.each([
    ['rejects', () => Promise.reject(new Error('away'))],
    ['answers nothing', () => undefined],
    ['answers issues that cannot be read', () => ({ issues: [null] })],
  ])('that %s is one the entry does not fit', async (_, validate) => {
    const entries = await lbs(schemaOf(validate, 60_000)).decode([entry('a')])
    expect(entries).toMatchObject([
      { problem: expect.stringMatching(/^Info was not checked: infoSchema has failed: ./) as string },
    ])
  })
})

describe('calls', () => {
  it('go on in their order, and one that fails does not hold up the next', async () => {
    const order = new CallOrder()
    const said: string[] = []
    let resolve: ((said: string) => void) | undefined
    const first = order.wait(new Promise<string>((done) => (resolve = done)))
    const second = order.wait(Promise.reject(new Error('second')))
    const third = order.wait('third')
    const all = [first, second, third].map(async (turn) => {
      said.push(await Promise.resolve(turn).catch((error: Error) => error.message))
    })
    resolve?.('first')
    await Promise.all(all)
    expect(said).toEqual(['first', 'second', 'third'])
    await expect.poll(() => order.wait('at once')).toBe('at once')
  })
})
