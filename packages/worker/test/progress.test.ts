import { eventually } from '@redis-stream-client/test/support/eventually'
import { expect, test } from 'vitest'
import { Handled, World } from './support/world.js'

const client = { progressTimeoutMs: 1000 } as const

test('a stream whose handler hangs goes to another worker, and one that waits for records stays', async () => {
  await using world = await World.start()
  const first = new Handled()
  const stuck = world.start('a', {
    client,
    process: ({ dataStreamName, id }, { signal }) => {
      first.note(dataStreamName, id)
      return dataStreamName === 'hanging'
        ? new Promise((resolve) => signal.addEventListener('abort', resolve))
        : undefined
    },
  })
  const [idle] = await world.fill('idle', 1)
  expect(await first.has('idle', 1)).toEqual([idle])
  const ids = await world.fill('hanging', 2)
  await first.has('hanging', 1)
  const second = new Handled()
  world.start('b', { client, process: ({ dataStreamName, id }) => second.note(dataStreamName, id) })
  expect(await second.has('hanging', 2)).toEqual(ids)
  await eventually('the first has heard of it', () =>
    stuck.events.some(({ event }) => event === 'streamEnded'),
  )
  const ended = stuck.events.filter(({ event }) => event === 'streamEnded')
  expect(ended.map(({ dataStreamName, how }) => [dataStreamName, how])).toEqual([['hanging', 'lost']])
  const { streams } = await stuck.worker.status()
  expect(streams.map(({ dataStreamName }) => dataStreamName)).toEqual(['idle'])
})
