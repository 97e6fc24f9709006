/**
 * What a Redis server holds, as far as the client uses it: strings with a TTL, hashes, lists, sorted sets, and streams with
 * consumer groups. Each method is one command and does what Redis 7.0 does; model-conformance.test.ts compares both.
 */

export type Fields = readonly string[]

interface StreamEntry {
  readonly id: string
  readonly fields: Fields
}

interface PendingEntry {
  consumer: string
  deliveredAtMs: number
}

interface Group {
  lastDelivered: number
  readonly pending: Map<string, PendingEntry>
  /** When each consumer was seen last. */
  readonly consumers: Map<string, number>
}

interface Stream {
  readonly type: 'stream'
  /** In the order of their ids. */
  readonly entries: Map<string, StreamEntry>
  lastMs: number
  lastSequence: number
  readonly groups: Map<string, Group>
}

interface Text {
  readonly type: 'string'
  value: string
  /** The moment after which it is gone. */
  endsAtMs: number
}

interface Hash {
  readonly type: 'hash'
  /** The moment after which it is gone. */
  endsAtMs: number
  readonly fields: Map<string, string>
}

interface List {
  readonly type: 'list'
  items: string[]
}

/** A sorted set whose scores are all 0. */
interface SortedSet {
  readonly type: 'zset'
  members: string[]
}

type Value = Stream | Text | Hash | List | SortedSet

export interface PendingRow {
  readonly id: string
  readonly consumer: string
  readonly idleMs: number
}

export interface ConsumerRow {
  readonly name: string
  readonly pending: number
  readonly idleMs: number
}

/** An error as the server answers it. */
export class ModelError extends Error {}

const MOST_PER_MS = 4096

export class ModelData {
  readonly #wallMs: () => number
  readonly #onExpired: (key: string, value: string) => void
  #values = new Map<string, Value>()

  constructor(wallMs: () => number, onExpired: (key: string, value: string) => void) {
    this.#wallMs = wallMs
    this.#onExpired = onExpired
  }

  /** Milliseconds on the clock of the server, as its commands count them. */
  get nowMs(): number {
    return Math.floor(this.#wallMs())
  }

  get nowUs(): number {
    return Math.floor(this.#wallMs() * 1000)
  }

  snapshot(): unknown {
    return structuredClone(this.#values)
  }

  /** What a server has loaded that starts again: a snapshot, or null for nothing. */
  restore(snapshot: unknown): void {
    this.#values = snapshot === null ? new Map() : (structuredClone(snapshot) as Map<string, Value>)
  }

  keys(): string[] {
    return [...this.#values.keys()]
  }

  /** Deletes every key past its TTL, as Redis does when it gets round to it. */
  expire(): void {
    for (const key of this.#values.keys()) this.#live(key)
  }

  del(key: string): number {
    return this.#live(key) !== undefined && this.#values.delete(key) ? 1 : 0
  }

  get(key: string): string | null {
    return this.#find(key, 'string')?.value ?? null
  }

  set(key: string, value: string, ttlMs: number = Number.POSITIVE_INFINITY): void {
    this.#values.set(key, { type: 'string', value, endsAtMs: this.nowMs + ttlMs })
  }

  pexpire(key: string, ttlMs: number): number {
    const found = this.#live(key)
    if (found?.type !== 'string' && found?.type !== 'hash') return 0
    found.endsAtMs = this.nowMs + ttlMs
    return 1
  }

  pttl(key: string): number {
    const value = this.#live(key)
    if (value === undefined) return -2
    if (value.type !== 'string' || value.endsAtMs === Number.POSITIVE_INFINITY) return -1
    return value.endsAtMs - this.nowMs
  }

  hget(key: string, field: string): string | null {
    return this.#find(key, 'hash')?.fields.get(field) ?? null
  }

  hset(key: string, field: string, value: string): void {
    const hash =
      this.#find(key, 'hash') ??
      this.#make(key, {
        type: 'hash',
        endsAtMs: Number.POSITIVE_INFINITY,
        fields: new Map(),
      })
    hash.fields.set(field, value)
  }

  hdel(key: string, field: string): void {
    const hash = this.#find(key, 'hash')
    hash?.fields.delete(field)
    if (hash?.fields.size === 0) this.#values.delete(key)
  }

  hgetall(key: string): ReadonlyMap<string, string> {
    return this.#find(key, 'hash')?.fields ?? new Map<string, string>()
  }

  lrange(key: string): readonly string[] {
    return this.#find(key, 'list')?.items ?? []
  }

  rpush(key: string, item: string): void {
    const list = this.#find(key, 'list') ?? this.#make(key, { type: 'list', items: [] })
    list.items.push(item)
  }

  lpop(key: string): void {
    const list = this.#find(key, 'list')
    list?.items.shift()
    if (list?.items.length === 0) this.#values.delete(key)
  }

  /** The members in their order, which is that of their characters. */
  zrange(key: string): readonly string[] {
    return this.#find(key, 'zset')?.members ?? []
  }

  zadd(key: string, member: string): void {
    const set = this.#find(key, 'zset') ?? this.#make(key, { type: 'zset', members: [] })
    if (!set.members.includes(member)) set.members = [...set.members, member].sort()
  }

  zpopmin(key: string): void {
    const set = this.#find(key, 'zset')
    set?.members.shift()
    if (set?.members.length === 0) this.#values.delete(key)
  }

  xadd(key: string, fields: Fields): string {
    const stream = this.#find(key, 'stream') ?? this.#makeStream(key)
    const isLater = this.nowMs > stream.lastMs
    stream.lastSequence = isLater ? 0 : stream.lastSequence + 1
    if (isLater) stream.lastMs = this.nowMs
    const id = `${stream.lastMs}-${stream.lastSequence}`
    stream.entries.set(id, { id, fields })
    return id
  }

  xdel(key: string, id: string): number {
    return this.#find(key, 'stream')?.entries.delete(id) ? 1 : 0
  }

  xlen(key: string): number {
    return this.#find(key, 'stream')?.entries.size ?? 0
  }

  /** The fields of one entry. */
  xget(key: string, id: string): Fields | null {
    return this.#find(key, 'stream')?.entries.get(id)?.fields ?? null
  }

  xall(key: string): StreamEntry[] {
    return [...(this.#find(key, 'stream')?.entries.values() ?? [])]
  }

  xgroupCreate(key: string, group: string): void {
    const stream = this.#find(key, 'stream') ?? this.#makeStream(key)
    if (stream.groups.has(group)) throw new ModelError('BUSYGROUP Consumer Group name already exists')
    stream.groups.set(group, { lastDelivered: -1, pending: new Map(), consumers: new Map() })
  }

  xgroupDestroy(key: string, group: string): number {
    return this.#find(key, 'stream')?.groups.delete(group) ? 1 : 0
  }

  xgroupCreateConsumer(key: string, group: string, consumer: string): number {
    const { consumers } = this.#group(key, group)
    if (consumers.has(consumer)) return 0
    consumers.set(consumer, this.nowMs)
    return 1
  }

  xgroupDelConsumer(key: string, group: string, consumer: string): void {
    const { consumers, pending } = this.#group(key, group)
    consumers.delete(consumer)
    for (const [id, entry] of pending) if (entry.consumer === consumer) pending.delete(id)
  }

  /** XREADGROUP of new entries, without waiting for any. */
  xreadgroup(key: string, group: string, consumer: string, count: number): StreamEntry[] {
    const found = this.#group(key, group)
    const entries: StreamEntry[] = []
    for (const entry of this.xall(key)) {
      const order = orderOf(entry.id)
      if (entries.length === count) break
      if (order <= found.lastDelivered) continue
      found.lastDelivered = order
      found.pending.set(entry.id, { consumer, deliveredAtMs: this.nowMs })
      entries.push(entry)
    }
    // Before Redis 7.2 a read that finds nothing leaves no trace of its consumer.
    if (entries.length > 0) found.consumers.set(consumer, this.nowMs)
    return entries
  }

  /** XREADGROUP of what is pending under a consumer after some id. */
  xreadgroupPending(
    key: string,
    group: string,
    consumer: string,
    after: string,
    count: number,
  ): [id: string, fields: Fields | null][] {
    const { consumers, pending } = this.#group(key, group)
    consumers.set(consumer, this.nowMs)
    const found = this.xpending(key, group).filter((row) => {
      return row.consumer === consumer && orderOf(row.id) > orderOf(after)
    })
    return found.slice(0, count).map(({ id }) => {
      pending.set(id, { consumer, deliveredAtMs: this.nowMs })
      return [id, this.xget(key, id)]
    })
  }

  /** What is pending, in the order of the ids. */
  xpending(key: string, group: string): PendingRow[] {
    const rows = [...this.#group(key, group).pending].map(([id, { consumer, deliveredAtMs }]) => {
      return { id, consumer, idleMs: this.nowMs - deliveredAtMs }
    })
    return rows.sort((a, b) => orderOf(a.id) - orderOf(b.id))
  }

  xpendingOne(key: string, group: string, id: string): PendingRow | null {
    const found = this.#group(key, group).pending.get(id)
    if (found === undefined) return null
    return { id, consumer: found.consumer, idleMs: this.nowMs - found.deliveredAtMs }
  }

  /** XCLAIM ... 0 id JUSTID of an entry that is pending. */
  xclaim(key: string, group: string, consumer: string, id: string): void {
    const { consumers, pending } = this.#group(key, group)
    const isThere = pending.has(id) && this.xget(key, id) !== null
    if (isThere || consumers.has(consumer)) consumers.set(consumer, this.nowMs)
    if (!isThere) pending.delete(id)
    else pending.set(id, { consumer, deliveredAtMs: this.nowMs })
  }

  xack(key: string, group: string, id: string): number {
    return this.#find(key, 'stream')?.groups.get(group)?.pending.delete(id) ? 1 : 0
  }

  xinfoConsumers(key: string, group: string): ConsumerRow[] {
    const { consumers, pending } = this.#group(key, group)
    const counts = new Map<string, number>()
    for (const { consumer } of pending.values()) counts.set(consumer, (counts.get(consumer) ?? 0) + 1)
    const rows = [...consumers].map(([name, seenAtMs]) => {
      return { name, pending: counts.get(name) ?? 0, idleMs: this.nowMs - seenAtMs }
    })
    return rows.sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  hasGroup(key: string, group: string): boolean {
    return this.#find(key, 'stream')?.groups.has(group) === true
  }

  #group(key: string, group: string): Group {
    const found = this.#find(key, 'stream')?.groups.get(group)
    if (found === undefined) throw new ModelError(`NOGROUP No such key '${key}' or consumer group '${group}'`)
    return found
  }

  #makeStream(key: string): Stream {
    return this.#make(key, {
      type: 'stream',
      entries: new Map(),
      lastMs: 0,
      lastSequence: 0,
      groups: new Map(),
    })
  }

  #make<T extends Value>(key: string, value: T): T {
    this.#values.set(key, value)
    return value
  }

  #find<T extends Value['type']>(key: string, type: T): Extract<Value, { type: T }> | undefined {
    const value = this.#live(key)
    if (value !== undefined && value.type !== type) {
      throw new ModelError('WRONGTYPE Operation against a key holding the wrong kind of value')
    }
    return value as Extract<Value, { type: T }> | undefined
  }

  /** Reading a key past its TTL deletes it. */
  #live(key: string): Value | undefined {
    const value = this.#values.get(key)
    if (value === undefined || !('endsAtMs' in value) || value.endsAtMs >= this.nowMs) return value
    this.#values.delete(key)
    this.#onExpired(key, value.type === 'string' ? value.value : '')
    return undefined
  }
}

/** A number that grows with the id. */
export function orderOf(id: string): number {
  const dash = id.indexOf('-')
  return Number(id.slice(0, dash)) * MOST_PER_MS + Number(id.slice(dash + 1))
}
