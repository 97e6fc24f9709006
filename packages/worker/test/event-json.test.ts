import { eventually } from '@redis-stream-client/test/support/eventually'
import { expect, test } from 'vitest'
import { WorkerError } from '../src/contract/worker-error.js'
import { World } from './support/world.js'

test('the JSON of an event shows what the handler has thrown', async () => {
  await using world = await World.start()
  const { worker } = world.start('a', {
    retry: { attempts: 1 },
    process: () => {
      throw new Error('no such order', { cause: Object.assign(new Error('404'), { code: 'NOT_FOUND' }) })
    },
  })
  const texts: string[] = []
  const frozen: boolean[] = []
  worker.on('deadLetter', (event) => {
    texts.push(JSON.stringify(event))
    frozen.push(Object.isFrozen(event))
  })
  await world.fill('s', 1)
  await eventually('the record went to the dead letters', () => texts.length === 1)
  expect(JSON.parse(texts[0] as string)).toMatchObject({
    dataStreamName: 's',
    attempts: 1,
    error: { message: 'no such order', cause: { code: 'NOT_FOUND', message: '404' } },
  })
  expect(frozen).toEqual([true])
  const error = new WorkerError('STREAM_NOT_HALTED', 's is not halted', { facts: { dataStreamName: 's' } })
  expect(JSON.parse(JSON.stringify(error))).toEqual({
    name: 'WorkerError',
    code: 'STREAM_NOT_HALTED',
    message: 's is not halted',
    facts: { dataStreamName: 's' },
  })
})
