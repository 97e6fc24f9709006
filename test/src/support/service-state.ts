/** What Redis holds of a service, read with plain commands: what tests compare with what the clients say. */
import type { Redis } from 'ioredis'

export interface LockRecord {
  readonly idInLbs: string
  readonly fencingToken: number
  readonly crashes: number
  /** Client id of the owner, null where the record is reserved. */
  readonly owner: string | null
}

export interface DeadLetter {
  readonly reason: string
  readonly error: string
  readonly id: string
  readonly fields: Readonly<Record<string, string>>
  readonly client: string
  readonly at: number
}

export interface Consumer {
  readonly name: string
  readonly clientId: string
  readonly pending: number
  readonly isAlive: boolean
}

export class ServiceState {
  readonly service: string
  readonly #redis: Redis

  constructor(redis: Redis, service: string) {
    this.#redis = redis
    this.service = service
  }

  get lbsKey(): string {
    return `${this.service}-input`
  }

  get group(): string {
    return `${this.service}-group`
  }

  /** Ids of the entries that are in the LBS. */
  async lbsIds(): Promise<string[]> {
    return (await this.#redis.xrange(this.lbsKey, '-', '+')).map(([id]) => id)
  }

  async lock(dataStreamName: string): Promise<LockRecord | null> {
    const text = await this.#redis.hget(`${this.service}-locks`, dataStreamName)
    return text === null ? null : parseLock(text)
  }

  async locks(): Promise<Record<string, LockRecord>> {
    const all = await this.#redis.hgetall(`${this.service}-locks`)
    return Object.fromEntries(Object.entries(all).map(([name, text]) => [name, parseLock(text)]))
  }

  /** How many streams each client holds, by client id. */
  async shares(): Promise<Record<string, number>> {
    const shares: Record<string, number> = {}
    for (const { owner } of Object.values(await this.locks())) {
      if (owner !== null) shares[owner] = (shares[owner] ?? 0) + 1
    }
    return shares
  }

  async checkpoint(dataStreamName: string): Promise<string | null> {
    return await this.#redis.hget(`${this.service}-checkpoints`, dataStreamName)
  }

  /** How many entries wait their turn. */
  async backlog(dataStreamName: string): Promise<number> {
    const [inOrder, late] = await Promise.all([
      this.#redis.llen(`${this.service}-backlog:${dataStreamName}`),
      this.#redis.zcard(`${this.service}-late:${dataStreamName}`),
    ])
    return inOrder + late
  }

  async consumers(): Promise<Consumer[]> {
    const rows = (await this.#redis.xinfo('CONSUMERS', this.lbsKey, this.group)) as unknown[][]
    return await Promise.all(
      rows.map(async (row) => {
        const facts = new Map<unknown, unknown>()
        for (let i = 0; i + 1 < row.length; i += 2) facts.set(row[i], row[i + 1])
        const name = String(facts.get('name'))
        const colon = name.lastIndexOf(':')
        const clientId = name.slice(0, colon)
        const token = await this.#redis.get(this.heartbeatKey(clientId))
        return {
          name,
          clientId,
          pending: Number(facts.get('pending')),
          isAlive: token === name.slice(colon + 1),
        }
      }),
    )
  }

  heartbeatKey(clientId: string): string {
    return `${this.service}-heartbeat:${clientId}`
  }

  async deadLetters(): Promise<DeadLetter[]> {
    const entries = await this.#redis.xrange(`${this.service}-dead`, '-', '+')
    return entries.map(([, flat]) => {
      const letter = toObject(flat)
      return {
        reason: letter['reason'] ?? '',
        error: letter['error'] ?? '',
        id: letter['id'] ?? '',
        fields: toObject(JSON.parse(letter['fields'] ?? '[]') as string[]),
        client: letter['client'] ?? '',
        at: Number(letter['at']),
      }
    })
  }

  /** What is left of the work: all of it 0 or empty once every entry is done or in the dead letters. */
  async leftovers(): Promise<{
    entries: number
    pending: number
    locks: string[]
    checkpoints: string[]
    backlogs: string[]
  }> {
    const [entries, summary, locks, checkpoints, inOrder, late] = await Promise.all([
      this.#redis.xlen(this.lbsKey),
      this.#redis.xpending(this.lbsKey, this.group),
      this.#redis.hkeys(`${this.service}-locks`),
      this.#redis.hkeys(`${this.service}-checkpoints`),
      this.#redis.keys(`${this.service}-backlog:*`),
      this.#redis.keys(`${this.service}-late:*`),
    ])
    const backlogs = [...inOrder, ...late]
    return { entries, pending: Number((summary as unknown[])[0]), locks, checkpoints, backlogs }
  }
}

function toObject(flat: readonly string[]): Record<string, string> {
  const object: Record<string, string> = {}
  for (let i = 0; i + 1 < flat.length; i += 2) object[flat[i] as string] = flat[i + 1] as string
  return object
}

function parseLock(text: string): LockRecord {
  const [idInLbs = '', fence = '', , crashes = '', , ...consumer] = text.split(' ')
  const owner = consumer.join(' ')
  return {
    idInLbs,
    fencingToken: Number(fence),
    crashes: Number(crashes),
    owner: owner === '' ? null : owner.slice(0, owner.lastIndexOf(':')),
  }
}
