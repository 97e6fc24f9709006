/** A service on a real server with sessions made by hand: what the scripts see, without a client. */

import { RedisServer } from '@redis-stream-client/test/support/redis-server'
import type { Redis } from 'ioredis'
import { type ConsumerName, formatConsumer } from '../../src/decisions/consumer-name.js'
import { Connection } from '../../src/redis/connection.js'
import { Lbs } from '../../src/redis/lbs.js'
import { LockRecords } from '../../src/redis/lock-records.js'
import { ServiceScripts } from '../../src/redis/service-scripts.js'
import type { TakeAnswer, TakeMode, TakeRules, Tenure } from '../../src/redis/stream-scripts.js'
import { resolveServiceKeys, type ServiceKeys } from '../../src/service-keys.js'

const RULES: TakeRules = {
  mode: 'acquire',
  maxCrashes: -1,
  crashWindowMs: 60_000,
  lbsIdleTimeMs: 40_000,
  formerTokens: [],
}

export class ScriptedService implements AsyncDisposable {
  readonly redis: Redis
  readonly keys: ServiceKeys
  readonly scripts: ServiceScripts
  readonly lbs: Lbs
  readonly records: LockRecords
  readonly connection: Connection
  readonly #server: RedisServer

  private constructor(server: RedisServer, connection: Connection) {
    this.#server = server
    this.redis = server.client()
    this.connection = connection
    this.keys = resolveServiceKeys('orders', { onCluster: false })
    this.scripts = new ServiceScripts(connection, this.keys)
    this.lbs = new Lbs(connection, this.keys)
    this.records = new LockRecords(connection, this.keys)
  }

  static async start(): Promise<ScriptedService> {
    const server = await RedisServer.start()
    const connection = new Connection(server.client(), { name: 'test', commandTimeoutMs: 5000 })
    await connection.open(5000, new AbortController().signal)
    return new ScriptedService(server, connection)
  }

  async reset(): Promise<void> {
    await this.redis.flushall()
    await this.redis.xgroup('CREATE', this.keys.lbs, this.keys.group, '0', 'MKSTREAM')
  }

  /** A session that is alive until `kill`. */
  async session(id: string, token: string): Promise<ConsumerName> {
    const name = { clientId: `redis-consumer-${id}`, token }
    await this.redis.set(this.keys.heartbeat(name.clientId), token)
    await this.redis.xgroup('CREATECONSUMER', this.keys.lbs, this.keys.group, formatConsumer(name))
    return name
  }

  async kill(session: ConsumerName): Promise<void> {
    await this.redis.del(this.keys.heartbeat(session.clientId))
  }

  /** Adds a data stream to the LBS; answers the id. */
  async add(dataStreamName: string, ...more: string[]): Promise<string> {
    const message = JSON.stringify({ DataStreamName: dataStreamName })
    return String(await this.redis.xadd(this.keys.lbs, '*', 'lbs-input', message, ...more))
  }

  /** Reads new entries as a session; answers their ids. */
  async read(session: ConsumerName, count = 10): Promise<string[]> {
    const reply = (await this.redis.xreadgroup(
      'GROUP',
      this.keys.group,
      formatConsumer(session),
      'COUNT',
      count,
      'STREAMS',
      this.keys.lbs,
      '>',
    )) as [string, [string, string[]][]][] | null
    return (reply ?? []).flatMap(([, entries]) => entries.map(([id]) => id))
  }

  /** Takes one entry. */
  async take(
    session: ConsumerName,
    id: string,
    dataStreamName: string,
    { knownFence = 0, ...rules }: Partial<TakeRules> & { mode?: TakeMode; knownFence?: number } = {},
  ): Promise<TakeAnswer | 'SESSION_LOST'> {
    const assignments = [{ id, dataStreamName, knownFence }]
    const answers = await this.scripts.take(session, assignments, { ...RULES, ...rules })
    return answers === 'SESSION_LOST' ? answers : (answers[0] as TakeAnswer)
  }

  /** Adds, reads and takes a stream; answers its tenure. */
  async own(session: ConsumerName, dataStreamName: string): Promise<Tenure> {
    const id = await this.add(dataStreamName)
    await this.read(session)
    const answer = await this.take(session, id, dataStreamName)
    if (answer === 'SESSION_LOST' || answer.status !== 'TAKEN') throw new Error('not taken')
    return { idInLbs: id, dataStreamName, fencingToken: answer.fencingToken }
  }

  async record(dataStreamName: string): Promise<string | null> {
    return await this.redis.hget(this.keys.locks, dataStreamName)
  }

  /** Ids pending in the group with their consumers. */
  async pending(): Promise<[id: string, consumer: string][]> {
    const rows = (await this.redis.xpending(this.keys.lbs, this.keys.group, '-', '+', 1000)) as [
      string,
      string,
    ][]
    return rows.map(([id, consumer]) => [id, consumer])
  }

  /** Original ids of what waits: of those that came in order, and of those that came late. */
  async backlog(dataStreamName: string): Promise<{ inOrder: string[]; late: string[] }> {
    const inOrder = await this.redis.lrange(this.keys.backlog(dataStreamName), 0, -1)
    const late = await this.redis.zrange(this.keys.late(dataStreamName), '0', '-1')
    const idOf = (item: string): string => (JSON.parse(item) as string[])[0] as string
    return { inOrder: inOrder.map(idOf), late: late.map((item) => idOf(item.slice(item.indexOf(' ') + 1))) }
  }

  /** Finishes a stream and whatever waits behind it; answers the fields of the entries in the order they are served. */
  async serveAll(session: ConsumerName, tenure: Tenure): Promise<string[][]> {
    const served: string[][] = []
    for (let current = tenure; ; ) {
      await this.scripts.finish(session, [{ ...current, keepCheckpoint: false }])
      const [id] = await this.read(session, 1)
      if (id === undefined) return served
      const [[, fields] = ['', []]] = await this.redis.xrange(this.keys.lbs, id, id)
      served.push(fields)
      const answer = await this.take(session, id, tenure.dataStreamName)
      if (answer === 'SESSION_LOST' || answer.status !== 'TAKEN') throw new Error('not taken')
      current = { ...tenure, idInLbs: id, fencingToken: answer.fencingToken }
    }
  }

  async deadLetters(): Promise<Record<string, string>[]> {
    const rows = await this.redis.xrange(this.keys.dead, '-', '+')
    return rows.map(([, fields]) => {
      const letter: Record<string, string> = {}
      for (let i = 0; i + 1 < fields.length; i += 2) letter[fields[i] as string] = fields[i + 1] as string
      return letter
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.connection.close()
    await this.#server[Symbol.asyncDispose]()
  }
}
