/**
 * Commands of a service in an order chosen by chance: producers add, sessions begin and end, read, take, commit,
 * finish, release, look; somebody deletes entries or the group. Each command can be carried out by several sides, a
 * real server and the model, whose ids and fences differ; `canonical` writes both in the same words.
 */
import { type ConsumerName, formatConsumer } from '../../src/decisions/consumer-name.js'
import type { Connection } from '../../src/redis/connection.js'
import { type FoundEntry, Lbs } from '../../src/redis/lbs.js'
import { LockRecords } from '../../src/redis/lock-records.js'
import { type DealRules, type RosterLine, ServiceScripts } from '../../src/redis/service-scripts.js'
import type { TakeAnswer, TakeRules } from '../../src/redis/stream-scripts.js'
import { LBS_FIELD, type ServiceKeys } from '../../src/service-keys.js'
import { numberOf } from './ledger.js'
import type { Random } from './random.js'

const STREAMS = ['s0', 's1', 's2'] as const
const CLIENTS = ['a', 'b', 'c'] as const
const FOR_EVER_MS = 1_000_000_000

/** A term of ownership that some side has been given; the number is that of its entry. */
interface Tenure {
  readonly entry: number
  readonly stream: string
  readonly session: ConsumerName
  /** By side. */
  readonly fences: number[]
}

export interface CommandResult {
  readonly text: string
  readonly answers: readonly unknown[]
}

/** One server with what has been learnt of its ids and fences. */
export class Side {
  readonly connection: Connection
  readonly keys: ServiceKeys
  readonly scripts: ServiceScripts
  /** Takes silence for death. */
  readonly impatientScripts: ServiceScripts
  readonly lbs: Lbs
  readonly records: LockRecords
  /** Ids of the LBS in the order of their numbers. */
  readonly ids: string[] = []
  readonly #fences: number[] = []

  constructor(connection: Connection, keys: ServiceKeys) {
    this.connection = connection
    this.keys = keys
    this.scripts = new ServiceScripts(connection, keys, { silentMs: FOR_EVER_MS })
    this.impatientScripts = new ServiceScripts(connection, keys, { silentMs: 0 })
    this.lbs = new Lbs(connection, keys)
    this.records = new LockRecords(connection, keys)
  }

  id(number: number): string {
    return this.ids[number] ?? '1-1'
  }

  /** What is under the ids with these numbers. */
  async found(numbers: readonly number[]): Promise<FoundEntry[]> {
    const ids = numbers.map((number) => this.id(number))
    const found: FoundEntry[] = []
    while (found.length < ids.length) found.push(...(await this.lbs.firstEntries(ids.slice(found.length))))
    return found
  }

  /** Learns ids that are new. */
  async learn(): Promise<void> {
    const last = this.ids.at(-1)
    const start = last === undefined ? '-' : `(${last}`
    const entries = await this.connection.run((redis) => redis.xrange(this.keys.lbs, start, '+'))
    this.ids.push(...entries.map(([id]) => id))
  }

  /** What the server holds of the service, in the words all sides share. */
  async state(): Promise<string> {
    const { keys } = this
    const { checkpoints, dead, group, lbs, locks, probe } = keys
    const state = await this.connection.run((redis) =>
      Promise.all([
        redis.xrange(lbs, '-', '+'),
        redis.xpending(lbs, group, '-', '+', 1000).then(
          (rows) =>
            (rows as [string, string][]).map(([id, consumer]) => [
              id,
              consumer.replace(/\d{13,}/g, 'moment'),
            ]),
          () => 'no group',
        ),
        redis.hgetall(locks).then((records) =>
          Object.entries(records)
            .map(([stream, record]) => [stream, record.replace(/^(\S+ \S+) \S+/, '$1')] as const)
            .sort(byName),
        ),
        redis.hgetall(checkpoints).then((all) => Object.entries(all).sort(byName)),
        Promise.all(STREAMS.map((stream) => redis.lrange(keys.backlog(stream), 0, -1))).then((lists) =>
          lists.map((items) => items.map((item) => JSON.parse(item) as unknown)),
        ),
        Promise.all(STREAMS.map((stream) => redis.zrange(keys.late(stream), '0', '-1'))).then((sets) =>
          sets.map((members) =>
            members.map((member) => JSON.parse(member.slice(member.indexOf(' ') + 1)) as unknown),
          ),
        ),
        redis.xrange(dead, '-', '+').then((letters) => letters.map(([, letter]) => describeLetter(letter))),
        Promise.all(CLIENTS.map((client) => redis.get(keys.heartbeat(client)))),
        redis.exists(probe),
      ]),
    )
    return this.canonical(state)
  }

  canonical(value: unknown): string {
    const text = JSON.stringify(value)
    const found = [...text.matchAll(/(?<![\d-])\d{16}(?![\d-])/g)].map(([fence]) => Number(fence))
    for (const fence of [...new Set(found)].sort((a, b) => a - b)) {
      if (!this.#fences.includes(fence)) this.#fences.push(fence)
    }
    return text
      .replace(/\b\d{13}-\d+\b/g, (id) => `entry ${this.ids.indexOf(id)}`)
      .replace(/(?<![\d-])\d{16}(?![\d-])/g, (fence) => `fence ${this.#fences.indexOf(Number(fence))}`)
  }
}

/** Without its time. */
function describeLetter(letter: readonly string[]): readonly unknown[] {
  const [reason, error, id, fields = '[]', client] = letter.filter((_, index) => index % 2 === 1)
  return [reason, error, id, JSON.parse(fields) as unknown, client]
}

/** Who numbers the jobs that are added, and hears of those that somebody deletes. */
export interface Jobs {
  add(stream: string): number
  deleted(number: number): void
}

type Action = (side: Side, index: number) => Promise<unknown>

export class ServiceCommands {
  readonly #random: Random
  readonly #sides: readonly Side[]
  readonly #sessions: ConsumerName[] = []
  readonly #alive = new Map<string, ConsumerName>()
  readonly #streamOf: string[] = []
  #tenures: Tenure[] = []
  #tokens = 0
  readonly #jobs: Jobs

  constructor(random: Random, sides: readonly Side[], jobs: Jobs) {
    this.#random = random
    this.#sides = sides
    this.#jobs = jobs
  }

  /** Consumers of living sessions that were given a stream and have not given it up. */
  believers(stream: string): string[] {
    return this.#tenures
      .filter((each) => each.stream === stream && this.#alive.get(each.session.clientId) === each.session)
      .map(({ session }) => formatConsumer(session))
  }

  /** Carries out the next command on every side. */
  async next(): Promise<CommandResult> {
    const random = this.#random
    if (this.#sessions.length === 0) return await this.#begin()
    const draw = random.next()
    if (draw < 0.16) return await this.#add()
    if (draw < 0.28) return await this.#read()
    if (draw < 0.5) return await this.#take()
    if (draw < 0.58) return await this.#finish()
    if (draw < 0.64) return await this.#release()
    if (draw < 0.7) return await this.#commit()
    if (draw < 0.74) return await this.#confirm()
    if (draw < 0.78) return await this.#bury()
    if (draw < 0.82) return await this.#begin()
    if (draw < 0.87) return await this.#end()
    if (draw < 0.93) return await this.#deal()
    if (draw < 0.95) return await this.#delete()
    if (draw < 0.955) return await this.#remakeGroup()
    return await this.#look()
  }

  async #run(text: string, action: Action): Promise<CommandResult> {
    const answers = await Promise.all(
      this.#sides.map((side, index) =>
        action(side, index).catch(
          (error: unknown) => `error ${String((error as Error).message).split(' ')[0]}`,
        ),
      ),
    )
    for (const side of this.#sides) await side.learn()
    return { text, answers }
  }

  /** Plain commands of the side's connection. */
  #plain(text: string, command: (redis: Connection['redis'], side: Side) => Promise<unknown>) {
    return this.#run(text, (side) => side.connection.run((redis) => command(redis, side)))
  }

  #session(): ConsumerName {
    const living = [...this.#alive.values()]
    return this.#random.chance(0.85) && living.length > 0
      ? this.#random.pick(living)
      : this.#random.pick(this.#sessions)
  }

  /** Numbers of entries; the youngest are the likeliest. */
  #entries(): number[] {
    const known = this.#sides[0]?.ids.length ?? 0
    return Array.from({ length: this.#random.whole(1, 3) }, () =>
      Math.max(0, known - 1 - Math.floor(this.#random.next() ** 2 * (known + 1))),
    )
  }

  #tenuresOf(session: ConsumerName): Tenure[] {
    if (this.#tenures.length === 0) return []
    const own = this.#tenures.filter((tenure) => tenure.session === session)
    const from = own.length > 0 && this.#random.chance(0.8) ? own : this.#tenures
    return Array.from({ length: this.#random.whole(1, 2) }, () => this.#random.pick(from))
  }

  async #begin(): Promise<CommandResult> {
    const clientId = this.#random.pick(CLIENTS)
    if (this.#alive.has(clientId)) return await this.#end()
    const session = { clientId, token: `t${this.#tokens++}` }
    this.#sessions.push(session)
    this.#alive.set(clientId, session)
    return await this.#run(`begin ${formatConsumer(session)}`, async (side) => {
      await side.connection.run((redis) => redis.set(side.keys.heartbeat(clientId), session.token))
      return await side.scripts.beginSession(session, {
        maxOwnedStreams: Number.POSITIVE_INFINITY,
        weight: 1,
        heartbeatTtlMs: 1,
      })
    })
  }

  async #end(): Promise<CommandResult> {
    const session = this.#session()
    if (this.#alive.get(session.clientId) === session) this.#alive.delete(session.clientId)
    if (this.#random.chance(0.3)) {
      const isTold = this.#random.chance(0.5)
      const text = `end ${formatConsumer(session)}`
      return await this.#run(text, (side) =>
        side.scripts.endSession(session, isTold ? { level: null } : null),
      )
    }
    const isPresent = [...this.#alive.values()].every((other) => other.clientId !== session.clientId)
    return await this.#plain(`kill ${formatConsumer(session)}`, async (redis, side) => {
      return isPresent ? await redis.del(side.keys.heartbeat(session.clientId)) : null
    })
  }

  async #add(): Promise<CommandResult> {
    const stream = this.#random.pick(STREAMS)
    const text = JSON.stringify({ DataStreamName: stream, Info: { n: this.#jobs.add(stream) } })
    const more = this.#random.chance(0.2) ? ['trace', 'x"y-ü', 'empty', ''] : []
    this.#streamOf[this.#sides[0]?.ids.length ?? 0] = stream
    return await this.#plain(`add ${stream}`, async (redis, side) => {
      await redis.xadd(side.keys.lbs, '*', LBS_FIELD, text, ...more)
      return null
    })
  }

  async #read(): Promise<CommandResult> {
    const session = this.#session()
    const consumer = formatConsumer(session)
    const count = this.#random.whole(1, 4)
    return await this.#plain(`read ${consumer}`, async (redis, { keys }) => {
      // Whether a read that finds nothing makes the consumer depends on the version of Redis.
      await redis.xgroup('CREATECONSUMER', keys.lbs, keys.group, consumer)
      return await redis.xreadgroup('GROUP', keys.group, consumer, 'COUNT', count, 'STREAMS', keys.lbs, '>')
    })
  }

  async #take(): Promise<CommandResult> {
    const random = this.#random
    const session = this.#session()
    const entries = this.#entries()
    const streams = await this.#streamsOf(entries)
    const others = this.#sessions.filter((each) => each.clientId === session.clientId && each !== session)
    const rules: TakeRules = {
      mode: random.pick(['acquire', 'dealt', 'claim']),
      maxCrashes: random.pick([-1, -1, 0, 1]),
      crashWindowMs: random.pick([1, FOR_EVER_MS]),
      lbsIdleTimeMs: random.pick([0, FOR_EVER_MS]),
      formerTokens: random.chance(0.3) ? others.map(({ token }) => token) : [],
    }
    const known = random.chance(0.3) ? this.#tenures.at(-1) : undefined
    const result = await this.#run(
      `${rules.mode} ${entries.join()} ${formatConsumer(session)} crashes ${rules.maxCrashes} idle ${rules.lbsIdleTimeMs}`,
      (side, sideIndex) => {
        const knownFence = known?.fences[sideIndex] ?? 0
        const assignments = entries.map((entry, index) => {
          return { id: side.id(entry), dataStreamName: streams[index] as string, knownFence }
        })
        return side.scripts.take(session, assignments, rules)
      },
    )
    const [first] = result.answers
    if (!Array.isArray(first)) return result
    entries.forEach((entry, index) => {
      const answers = result.answers.map((each) => (each as TakeAnswer[])[index] as TakeAnswer)
      if (answers.every(({ status }) => status === 'GONE')) {
        this.#tenures = this.#tenures.filter((each) => each.session !== session || each.entry !== entry)
      }
      const fences = answers.flatMap((each) => (each.status === 'TAKEN' ? [each.fencingToken] : []))
      if (fences.length !== this.#sides.length) return
      const stream = streams[index] as string
      this.#tenures = this.#tenures.filter((each) => each.session !== session || each.stream !== stream)
      this.#tenures.push({ entry, stream, session, fences })
    })
    return result
  }

  /** The stream each entry names. */
  async #streamsOf(entries: readonly number[]): Promise<string[]> {
    const side = this.#sides[0] as Side
    const found = await side.found(entries)
    return found.map(({ entry }, index) => {
      const name = entry !== null && 'message' in entry ? entry.message.dataStreamName : undefined
      const known = name ?? this.#streamOf[entries[index] as number] ?? STREAMS[0]
      this.#streamOf[entries[index] as number] = known
      return known
    })
  }

  async #finish(): Promise<CommandResult> {
    const session = this.#session()
    const tenures = this.#tenuresOf(session)
    const keepCheckpoint = this.#random.chance(0.3)
    const result = await this.#run(`finish ${describe(session, tenures)}`, (side, index) =>
      side.scripts.finish(
        session,
        tenures.map((tenure) => ({ ...tenureOf(tenure, side, index), keepCheckpoint })),
      ),
    )
    this.#tenures = this.#tenures.filter((each) => each.session !== session || !tenures.includes(each))
    return result
  }

  async #release(): Promise<CommandResult> {
    const session = this.#session()
    const tenures = this.#tenuresOf(session)
    const rules = this.#random.pick([{}, { pool: 'pool:1' }, { ownMs: FOR_EVER_MS }])
    const result = await this.#run(
      `release ${describe(session, tenures)} ${JSON.stringify(rules)}`,
      (side, index) =>
        side.scripts.release(
          session,
          tenures.map((tenure) => tenureOf(tenure, side, index)),
          rules,
        ),
    )
    this.#tenures = this.#tenures.filter((each) => each.session !== session || !tenures.includes(each))
    return result
  }

  async #commit(): Promise<CommandResult> {
    const session = this.#session()
    const number = this.#random.whole(0, 3)
    const tenures = this.#tenuresOf(session)
    return await this.#run(`commit ${describe(session, tenures)} ${number}`, (side, index) =>
      side.scripts.commit(
        session,
        tenures.map((tenure) => {
          return { tenure: tenureOf(tenure, side, index), number, checkpoint: `c${number}` }
        }),
      ),
    )
  }

  async #confirm(): Promise<CommandResult> {
    const session = this.#session()
    const tenures = this.#tenuresOf(session)
    return await this.#run(`confirm ${describe(session, tenures)}`, (side, index) =>
      side.scripts.confirm(
        session,
        tenures.map((tenure) => tenureOf(tenure, side, index)),
      ),
    )
  }

  async #bury(): Promise<CommandResult> {
    const session = this.#session()
    const entries = this.#random.chance(0.7) ? this.#entries().slice(0, 1) : this.#entries()
    return await this.#run(`bury ${entries.join()} ${formatConsumer(session)}`, (side) => {
      const letters = entries.map((entry) => ({ id: side.id(entry), reason: 'malformed', problem: 'none' }))
      return side.scripts.bury(session, letters)
    })
  }

  /** From whoever has something pending: dead, alive or nobody. What is taken next is up to `take`. */
  async #deal(): Promise<CommandResult> {
    const random = this.#random
    const session = this.#session()
    const rules: DealRules = {
      mode: random.pick(['take', 'tell']),
      idleMs: random.pick([0, 0, 0, FOR_EVER_MS]),
      tellMs: random.pick([1, FOR_EVER_MS]),
      tellAgainMs: random.pick([1, FOR_EVER_MS]),
      greatestMs: FOR_EVER_MS,
    }
    const count = random.whole(1, 3)
    const choice = random.next()
    return await this.#run(
      `deal ${rules.mode} ${count} ${formatConsumer(session)} idle ${rules.idleMs}`,
      async (side) => {
        const rows = (await side.connection.run((redis) =>
          redis.xpending(side.keys.lbs, side.keys.group, '-', '+', 1000),
        )) as [string, string][]
        const holders = [...new Set(rows.map(([, holder]) => holder))].sort()
        const from = holders[Math.floor(choice * holders.length)] ?? 'nobody:t'
        const dealt = await side.scripts.deal(session, from, count, rules)
        if (dealt === 'SESSION_LOST') return dealt
        const entries = dealt.entries.map(([id, fields]) => [String(id), fields?.map(String)])
        return { entries, mayBeMore: dealt.mayBeMore, gone: dealt.gone, isKept: dealt.waitMs > 0 }
      },
    )
  }

  async #delete(): Promise<CommandResult> {
    const [entry = 0] = this.#entries()
    return await this.#plain(`delete ${entry}`, async (redis, side) => {
      for (const [, fields] of await redis.xrange(side.keys.lbs, side.id(entry), side.id(entry))) {
        this.#jobs.deleted(numberOf(fields))
      }
      return await redis.xdel(side.keys.lbs, side.id(entry))
    })
  }

  async #remakeGroup(): Promise<CommandResult> {
    const session = this.#session()
    return await this.#run('make the group anew', async (side) => {
      await side.connection.run((redis) => redis.xgroup('DESTROY', side.keys.lbs, side.keys.group))
      if (this.#alive.size > 0) await side.lbs.ensureConsumer(formatConsumer(session))
    })
  }

  /** Everything that looks at the whole service. */
  async #look(): Promise<CommandResult> {
    const random = this.#random
    const session = this.#session()
    const consumer = formatConsumer(session)
    const isImpatient = random.chance(0.3)
    const scriptsOf = (side: Side) => (isImpatient ? side.impatientScripts : side.scripts)
    const entries = this.#entries()
    const withEnds = random.chance(0.5)
    switch (random.whole(0, 9)) {
      case 0:
        return await this.#run('roster', async (side) => sorted(await scriptsOf(side).roster({ withEnds })))
      case 1:
        return await this.#run('probe', async (side) => {
          const answer = await scriptsOf(side).probe(session.clientId, FOR_EVER_MS)
          return 'lines' in answer ? { ...answer, lines: sorted(answer.lines) } : answer
        })
      case 2:
        return await this.#plain('end of the probe round', (redis, side) => redis.del(side.keys.probe))
      case 3:
        return await this.#run('sweep', (side) => side.scripts.sweep([...STREAMS]))
      case 4: {
        const names = this.#sessions.map(formatConsumer).filter(() => random.chance(0.5))
        await this.#run('consumers', async (side) => {
          const consumers = await side.lbs.consumers()
          return consumers.map(({ name, pending }) => [name, pending])
        })
        return await this.#run(`remove consumers ${names.join()}`, (side) =>
          side.scripts.removeConsumers(names),
        )
      }
      case 5: {
        const count = random.whole(1, 4)
        const after = random.chance(0.5) ? entries[0] : undefined
        const idleMs = random.pick([undefined, 0, FOR_EVER_MS])
        return await this.#run(`pending of ${consumer} after ${after}`, (side) =>
          side.lbs.pendingIds(consumer, count, after === undefined ? null : side.id(after), idleMs),
        )
      }
      case 6:
        return await this.#run('records', (side) => side.records.of(STREAMS))
      case 7:
        return await this.#plain(`pending of ${consumer}, read`, (redis, { keys }) => {
          const after = isImpatient ? '18446744073709551614-0' : '0-0'
          return redis.xreadgroup('GROUP', keys.group, consumer, 'COUNT', 2, 'STREAMS', keys.lbs, after)
        })
      case 8:
        return await this.#run('page of records', async (side) => {
          const { next, records } = await side.records.page('0', 100)
          return [next, [...records].sort(byName)]
        })
      default:
        return await this.#run(`entries ${entries.join()}`, (side) => side.found(entries))
    }
  }
}

function tenureOf({ entry, fences, stream }: Tenure, side: Side, index: number) {
  return { dataStreamName: stream, idInLbs: side.id(entry), fencingToken: fences[index] as number }
}

function describe(session: ConsumerName, tenures: readonly Tenure[]): string {
  return `${formatConsumer(session)} ${tenures.map(({ entry, stream }) => `${stream} ${entry}`).join(', ')}`
}

function byName([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1
}

function sorted(lines: readonly RosterLine[]): RosterLine[] {
  const roster = lines.map((line) => ({ ...line, ageMs: 0 }))
  return roster.sort((a, b) => (a.consumer < b.consumer ? -1 : 1))
}
