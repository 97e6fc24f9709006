/** Lock records as plain commands read them. The scripts decide; this is for looking. */
import type { ServiceKeys } from '../service-keys.js'
import type { Connection } from './connection.js'

/** See lua/includes/record.lua. */
export interface LockRecord {
  readonly idInLbs: string
  readonly fencingToken: number
  /** Null: reserved for that entry. */
  readonly consumer: string | null
}

export class LockRecords {
  readonly #connection: Connection
  readonly #keys: ServiceKeys

  constructor(connection: Connection, keys: ServiceKeys) {
    this.#connection = connection
    this.#keys = keys
  }

  /** The records of these data streams, null where there is none. */
  async of(dataStreamNames: readonly string[]): Promise<(LockRecord | null)[]> {
    if (dataStreamNames.length === 0) return []
    const texts = await this.#connection.run((redis) => redis.hmget(this.#keys.locks, ...dataStreamNames))
    return texts.map((text) => (text === null ? null : parseLockRecord(text)))
  }

  /** One page of the whole table, from a cursor that begins and ends with `0`. */
  async page(
    cursor: string,
    count: number,
  ): Promise<{ next: string; records: Map<string, LockRecord | null> }> {
    const [next, flat] = await this.#connection.run((redis) =>
      redis.hscan(this.#keys.locks, cursor, 'COUNT', count),
    )
    const records = new Map<string, LockRecord | null>()
    for (let i = 0; i + 1 < flat.length; i += 2) {
      records.set(flat[i] as string, parseLockRecord(flat[i + 1] as string))
    }
    return { next, records }
  }
}

function parseLockRecord(text: string): LockRecord | null {
  const match = /^(\S+) (\d+) \d+ \d+ \d+ (.*)$/s.exec(text)
  if (match === null) return null
  const [, idInLbs, fence, consumer] = match as unknown as [string, string, string, string]
  return { idInLbs, fencingToken: Number(fence), consumer: consumer === '' ? null : consumer }
}
