/** The scripts of the worker against a real server: what they refuse to anybody but the owner of this very tenure. */
import { Connection, type Fence } from '@redis-stream-client/client/internal'
import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { resolveWorkerKeys } from '../src/redis/worker-keys.js'
import { WorkerScripts } from '../src/redis/worker-scripts.js'

const OWNER: Fence = {
  clientId: 'redis-consumer-a',
  token: 'f00d',
  dataStreamName: 's',
  idInLbs: '5-0',
  fencingToken: 70,
  isHeld: () => true,
  ownerFell: false,
  sessionSignal: new AbortController().signal,
  nextCommit: () => 1,
}

let server: RedisServer
let connection: Connection
let scripts: WorkerScripts

beforeEach(async () => {
  server = await RedisServer.start()
  const redis = server.client()
  connection = new Connection(redis, { name: 'test', commandTimeoutMs: 5000 })
  await connection.open(5000, new AbortController().signal)
  scripts = new WorkerScripts(connection, resolveWorkerKeys('orders', { onCluster: false }))
  await redis.set('orders-heartbeat:redis-consumer-a', 'f00d')
  await redis.hset('orders-locks', 's', '5-0 70 1 0 0 redis-consumer-a:f00d')
  await redis.xadd('s', '1-0', 'n', '1')
})
afterEach(async () => {
  connection.close()
  await server[Symbol.asyncDispose]()
})

describe('the owner', () => {
  const command = { words: ['SET', 'by', 'a'], keys: ['by'] }

  test('is served', async () => {
    expect(await scripts.transact(OWNER, 1, '{"id":"1-0"}', [command])).toEqual({
      status: 'OK',
      replies: ['OK'],
    })
    expect(await scripts.deleteStream(OWNER, '1-0')).toBe('DELETED')
  })

  test.each<[string, Partial<Fence>, string]>([
    // The same session may have let go of the stream and taken it again, for the same entry.
    ['of an earlier tenure', { fencingToken: 69 }, 'NOT_OWNED'],
    ['of another entry', { idInLbs: '4-0' }, 'NOT_OWNED'],
    ['of an earlier session', { token: 'dead' }, 'SESSION_LOST'],
    ['of another stream', { dataStreamName: 't' }, 'NOT_OWNED'],
  ])('%s is refused, and nothing changes', async (_, other, status) => {
    const fence = { ...OWNER, ...other }
    expect(await scripts.transact(fence, 1, '{"id":"1-0"}', [command])).toEqual({ status })
    expect(await scripts.deleteStream(fence, '1-0')).toBe(status)
    const redis = server.client()
    expect(await redis.exists('by', 'orders-checkpoints')).toBe(0)
    expect(await redis.xlen('s')).toBe(1)
  })

  test('of another client under the same session token is refused', async () => {
    await server.client().set('orders-heartbeat:redis-consumer-b', 'f00d')
    const fence = { ...OWNER, clientId: 'redis-consumer-b' }
    expect(await scripts.transact(fence, 1, '{"id":"1-0"}', [command])).toEqual({ status: 'NOT_OWNED' })
  })
})
