/** Lock records as plain commands read them. The scripts decide; this is for looking. */
import { BatchSize } from '../decisions/batch-size.js'
import { batchesOf } from '../decisions/batches.js'
import type { ServiceKeys } from '../service-keys.js'
import type { Connection } from './connection.js'
import { READ_BYTES } from './lbs.js'

const FIRST_PAGE = 50

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
  readonly #pageSize = new BatchSize(READ_BYTES, FIRST_PAGE)

  constructor(connection: Connection, keys: ServiceKeys) {
    this.#connection = connection
    this.#keys = keys
  }

  /** The records of these data streams, null where there is none. Asked for in several commands if the names are long. */
  async of(dataStreamNames: readonly string[]): Promise<(LockRecord | null)[]> {
    const records: (LockRecord | null)[] = []
    for (const names of batchesOf(dataStreamNames, dataStreamNames.length, (name) =>
      Buffer.byteLength(name),
    )) {
      const texts = await this.#connection.run((redis) => redis.hmget(this.#keys.locks, ...names))
      for (const text of texts) records.push(text === null ? null : parseLockRecord(text))
    }
    return records
  }

  /** One page of the whole table, from a cursor that begins and ends with `0`: fewer than `count` if names are long. */
  async page(
    cursor: string,
    count: number,
  ): Promise<{ next: string; records: Map<string, LockRecord | null> }> {
    const [next, flat] = await this.#scan(cursor, this.#pageSize.count(count))
    this.#pageSize.hear(flat.map((text) => Buffer.byteLength(text)))
    const records = new Map<string, LockRecord | null>()
    for (let i = 0; i + 1 < flat.length; i += 2) {
      records.set(flat[i] as string, parseLockRecord(flat[i + 1] as string))
    }
    return { next, records }
  }

  async #scan(cursor: string, count: number): Promise<[next: string, flat: string[]]> {
    try {
      return await this.#connection.run((redis) => redis.hscan(this.#keys.locks, cursor, 'COUNT', count))
    } catch (error) {
      this.#pageSize.fail(count)
      throw error
    }
  }

  /** One page of the clients that are entered among the members, from a cursor that begins and ends with `0`. */
  async membersPage(cursor: string, count: number): Promise<{ next: string; clientIds: string[] }> {
    const [next, flat] = await this.#connection.run((redis) =>
      redis.hscan(this.#keys.members, cursor, 'COUNT', count),
    )
    return { next, clientIds: flat.filter((_, index) => index % 2 === 0) }
  }
}

function parseLockRecord(text: string): LockRecord | null {
  const match = /^(\S+) (\d+) \d+ \d+ \d+ (.*)$/s.exec(text)
  if (match === null) return null
  const [, idInLbs, fence, consumer] = match as unknown as [string, string, string, string]
  return { idInLbs, fencingToken: Number(fence), consumer: consumer === '' ? null : consumer }
}
