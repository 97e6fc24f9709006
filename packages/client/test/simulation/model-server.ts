/** A model of a Redis server: the commands the client sends, blocked reads, publishing, and what a restart leaves. */
import { createHash } from 'node:crypto'
import * as lua from '../../src/redis/lua.generated.js'
import { ModelData, ModelError, orderOf } from './model-data.js'
import { type Answer, ModelScripts, type ScriptWatch, type ScriptWeakness } from './model-scripts.js'

/** The server's side of a connection. */
export interface Peer {
  /** Sends a message of a channel, or of a pattern and a channel. */
  push(event: 'message' | 'pmessage', ...texts: string[]): void
}

export type Reply = (error: Error | null, answer?: Answer) => void

interface BlockedRead {
  readonly peer: Peer
  readonly key: string
  readonly group: string
  readonly consumer: string
  readonly count: number
  readonly reply: Reply
  isOver: boolean
}

export interface ModelServerOptions {
  readonly wallMs: () => number
  /** On the clock of `refuseUntil`. */
  readonly nowMs?: () => number
  readonly later: (ms: number, act: () => void) => void
  readonly watch: ScriptWatch
  readonly weakness: ScriptWeakness | null
  /** How much of a lock's TTL the server grants. */
  readonly ttlShare: number
  /** It has been sent the scripts before. */
  readonly knowsScripts?: boolean
  /** A key past its TTL has been deleted. */
  readonly onExpired?: (key: string, value: string) => void
  /** Called after every command. */
  readonly afterWrite: () => void
  readonly log?: ((text: string) => void) | undefined
}

const DATABASE = 0
const sha1 = (text: string): string => createHash('sha1').update(text).digest('hex')
/** Names of the scripts in lua/, by their hash. */
const SCRIPTS = new Map(
  Object.entries(lua).map(([name, text]) => [
    sha1(text),
    name.replace(/Lua$/, '').replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
  ]),
)

export class ModelServer {
  readonly data: ModelData
  readonly #options: ModelServerOptions
  readonly #scripts: ModelScripts
  #blocked: BlockedRead[] = []
  readonly #channels = new Map<Peer, Set<string>>()
  readonly #patterns = new Map<Peer, Set<string>>()
  /** Hashes of scripts it has been sent. */
  readonly #known = new Set<string>()
  #flags = ''
  #refusesUntilMs = 0
  readonly #expired: string[] = []

  constructor(options: ModelServerOptions) {
    this.#options = options
    this.data = new ModelData(options.wallMs, (key, value) => {
      this.#expired.push(key)
      options.onExpired?.(key, value)
    })
    if (options.knowsScripts === true) for (const hash of SCRIPTS.keys()) this.#known.add(hash)
    const publish = (channel: string, message: string): void => void this.#publish(channel, message)
    this.#scripts = new ModelScripts(this.data, publish, options.watch, options.weakness, options.ttlShare)
  }

  /** Executes a command and answers it, now or when there is something to read. */
  call(peer: Peer, name: string, args: readonly string[], reply: Reply): void {
    this.#options.log?.(
      `server: ${nameOf(name, args)} ${args.slice(name.startsWith('eval') ? 1 : 0).join(' ')}`,
    )
    try {
      if ((this.#options.nowMs?.() ?? 0) < this.#refusesUntilMs) {
        throw new ModelError('LOADING Redis is loading the dataset in memory')
      }
      if (name === 'xreadgroup') this.#read(peer, args, reply)
      else reply(null, this.#execute(peer, name, args))
    } catch (error) {
      if (!(error instanceof ModelError)) throw error
      reply(error)
    }
    this.#settle()
  }

  /** It answers every command with "not now". */
  refuseUntil(ms: number): void {
    this.#refusesUntilMs = ms
  }

  /** A producer, or somebody else who writes, has come by. */
  write<T>(act: (data: ModelData) => T): T {
    const result = act(this.data)
    this.#settle()
    return result
  }

  /** Deletes what is past its TTL. */
  expire(): void {
    this.data.expire()
    this.#settle()
  }

  /** A connection has ended. */
  forget(peer: Peer): void {
    this.#channels.delete(peer)
    this.#patterns.delete(peer)
    this.#blocked = this.#blocked.filter((read) => read.peer !== peer)
  }

  forgetScripts(): void {
    this.#known.clear()
  }

  /** What a restart takes from a server beside its data. */
  restart(snapshot: unknown): void {
    this.data.restore(snapshot)
    this.#known.clear()
    this.#flags = ''
    this.#blocked = []
    this.#channels.clear()
    this.#patterns.clear()
  }

  #execute(peer: Peer, name: string, args: readonly string[]): Answer {
    const { data } = this
    const [first, second, third, fourth] = args as [string, string, string, string]
    switch (name) {
      case 'evalsha':
        if (!this.#known.has(first)) throw new ModelError('NOSCRIPT No matching script. Please use EVAL.')
        return this.#script(first, args)
      case 'eval': {
        const hash = sha1(first)
        this.#known.add(hash)
        if (!SCRIPTS.has(hash)) SCRIPTS.set(hash, lockScriptOf(first))
        return this.#script(hash, args)
      }
      case 'info':
        return 'redis_version:7.0.15\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n'
      case 'config':
        if (first === 'SET') this.#flags = third
        return first === 'SET' ? 'OK' : [second, second === 'notify-keyspace-events' ? this.#flags : '']
      case 'ping':
        return 'PONG'
      case 'publish':
        return this.#publish(first, second)
      case 'subscribe':
        setOf(this.#channels, peer).add(first)
        return 1
      case 'psubscribe':
        setOf(this.#patterns, peer).add(first)
        return 1
      case 'set':
        data.set(first, second, third === 'PX' ? Number(fourth) : undefined)
        return 'OK'
      case 'del':
        return data.del(first)
      case 'exists':
        return data.keys().includes(first) ? 1 : 0
      case 'hgetall':
        return Object.fromEntries(data.hgetall(first)) as unknown as Answer
      case 'lrange':
        return data.lrange(first)
      case 'zrange':
        return data.zrange(first)
      case 'xadd':
        return data.xadd(first, args.slice(2))
      case 'xdel':
        return data.xdel(first, second)
      case 'hget':
        return data.hget(first, second)
      case 'get':
        return data.get(first)
      case 'hmget':
        return args.slice(1).map((field) => data.hget(first, field))
      case 'hscan':
        return ['0', [...data.hgetall(first)].flat()]
      case 'xack':
        return args.slice(2).reduce((count, id) => count + data.xack(first, second, id), 0)
      case 'xrange': {
        if (third === '+') {
          const after = second === '-' ? -1 : orderOf(second.slice(1)) // `(id`
          return data.xall(first).flatMap(({ id, fields }) => (orderOf(id) > after ? [[id, fields]] : []))
        }
        const fields = data.xget(first, second)
        return fields === null ? [] : [[second, fields]]
      }
      case 'xpending':
        return this.#pending(args)
      case 'xinfo':
        return data
          .xinfoConsumers(second, third)
          .map(({ idleMs, name, pending }) => ['name', name, 'pending', pending, 'idle', idleMs])
      case 'xgroup':
        if (first === 'DESTROY') return data.xgroupDestroy(second, third)
        if (first === 'CREATECONSUMER') return data.xgroupCreateConsumer(second, third, fourth)
        data.xgroupCreate(second, third)
        return 'OK'
      default:
        throw new RangeError(`the model has no command ${name}`)
    }
  }

  #script(hash: string, args: readonly string[]): Answer {
    const keyCount = Number(args[1])
    return this.#scripts.run(SCRIPTS.get(hash) ?? '', args.slice(2, 2 + keyCount), args.slice(2 + keyCount))
  }

  /** XPENDING key group [IDLE ms] start + count consumer */
  #pending(args: readonly string[]): Answer {
    const [key, group, ...rest] = args as [string, string, ...string[]]
    const idleMs = rest[0] === 'IDLE' ? Number(rest.splice(0, 2)[1]) : 0
    const [start, , count, consumer] = rest as [string, string, string, string | undefined]
    const rows = this.data.xpending(key, group)
    const after = start === '-' ? -1 : rows.findIndex(({ id }) => id === start.slice(1))
    const isAfterAll = start !== '-' && after === -1
    const from = isAfterAll ? rows.filter(({ id }) => isLater(id, start.slice(1))) : rows.slice(after + 1)
    return from
      .filter((row) => row.consumer === (consumer ?? row.consumer) && row.idleMs >= idleMs)
      .slice(0, Number(count))
      .map((row) => [row.id, row.consumer, row.idleMs, 1])
  }

  /** XREADGROUP GROUP group consumer COUNT count [BLOCK ms] STREAMS key, and > or the id to read pending entries after */
  #read(peer: Peer, args: readonly string[], reply: Reply): void {
    const [, group, consumer, , count, ...rest] = args as [
      string,
      string,
      string,
      string,
      string,
      ...string[],
    ]
    const blockMs = rest[0] === 'BLOCK' ? rest[1] : undefined
    const [key, after] = rest.slice(-2) as [string, string]
    if (after !== '>') {
      const entries = this.data.xreadgroupPending(key, group, consumer, after, Number(count))
      reply(null, [[key, entries]])
      return
    }
    const read: BlockedRead = {
      peer,
      key,
      group,
      consumer,
      count: Number(count),
      reply,
      isOver: false,
    }
    if (this.#serve(read)) return
    if (blockMs === undefined) {
      reply(null, null)
      return
    }
    this.#blocked.push(read)
    this.#options.later(Number(blockMs), () => {
      if (read.isOver || !this.#blocked.includes(read)) return
      read.isOver = true
      this.#blocked = this.#blocked.filter((each) => each !== read)
      reply(null, null)
    })
  }

  #serve(read: BlockedRead): boolean {
    const entries = this.data.xreadgroup(read.key, read.group, read.consumer, read.count)
    if (entries.length === 0) return false
    read.isOver = true
    read.reply(null, [[read.key, entries.map(({ id, fields }) => [id, fields])]])
    return true
  }

  /** What follows a command: events of expired keys, reads that can be answered. */
  #settle(): void {
    for (let key = this.#expired.shift(); key !== undefined; key = this.#expired.shift()) {
      if (!this.#flags.includes('x') || !this.#flags.includes('K')) continue
      const channel = `__keyspace@${DATABASE}__:${key}`
      for (const [peer, patterns] of this.#patterns) {
        for (const pattern of patterns) {
          if (channel.startsWith(pattern.slice(0, -1))) peer.push('pmessage', pattern, channel, 'expired')
        }
      }
    }
    const waiting = this.#blocked
    this.#blocked = []
    for (const read of waiting) {
      try {
        if (!this.#serve(read)) this.#blocked.push(read)
      } catch (error) {
        read.isOver = true
        read.reply(error as Error)
      }
    }
    this.#options.afterWrite()
  }

  #publish(channel: string, message: string): number {
    let heard = 0
    for (const [peer, channels] of this.#channels) {
      if (!channels.has(channel)) continue
      peer.push('message', channel, message)
      heard++
    }
    return heard
  }
}

/** A command, or the script that it runs. */
export function nameOf(command: string, [hash]: readonly string[]): string {
  return command === 'evalsha' ? (SCRIPTS.get(hash ?? '') ?? command) : command
}

function isLater(id: string, other: string): boolean {
  const [ms, sequence] = id.split('-').map(Number) as [number, number]
  const [otherMs, otherSequence] = other.split('-').map(Number) as [number, number]
  return ms > otherMs || (ms === otherMs && sequence > otherSequence)
}

function lockScriptOf(text: string): string {
  if (text.includes('"exists"')) return 'lock-acquire'
  if (text.includes('"del"')) return 'lock-release'
  if (text.includes("'PEXPIRE'")) return 'lock-extend'
  throw new RangeError(`the model does not know this script: ${text}`)
}

function setOf<T>(sets: Map<T, Set<string>>, key: T): Set<string> {
  const known = sets.get(key)
  if (known !== undefined) return known
  const made = new Set<string>()
  sets.set(key, made)
  return made
}
