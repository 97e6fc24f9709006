/** The assignments that could not be served: the stream `<service>-dead`, to be looked at, replayed and dropped. */
import { decodeLbsMessage, StreamClientError } from '@redis-stream-client/notifs'
import { refuseKeyPrefix } from './lbs-producer.js'
import { isCluster, type RedisLike } from './redis/duplicate.js'
import { bytesOf, GREATEST_SCRIPT_BYTES } from './redis/lbs.js'
import { decodeLetterFields, pairsOf } from './redis/letter-fields.js'
import { listLetters, type RawLetter } from './redis/letter-list.js'
import { replayDeadLua } from './redis/lua.generated.js'
import { isReply, redisError } from './redis/redis-errors.js'
import { Script } from './redis/script.js'
import { LBS_FIELD, resolveServiceKeys, type ServiceKeys } from './service-keys.js'

/** An assignment in the dead letters. */
export interface DeadAssignment {
  /** Of the dead letter itself: what `replay` and `drop` take. */
  readonly id: string
  /** Null where the entry does not say it in a way that can be read. */
  readonly dataStreamName: string | null
  /** Of the entry it was in the LBS. */
  readonly idInLbs: string
  /** The fields of the entry in their order, as text; a name may occur more than once. */
  readonly fields: readonly (readonly [name: string, value: string])[]
  /** The same as bytes, which need not be UTF-8. */
  readonly rawFields: readonly (readonly [name: Buffer, value: Buffer])[]
  /** `malformed`, `reserved-name`, `info-invalid`, `unserviceable` or `max-crashes`. */
  readonly reason: string
  readonly error: string
  /** When it was given up, milliseconds since 1970. */
  readonly atMs: number
  /** Client id of the client that gave up. */
  readonly owner: string
}

export interface DeadLetterListOptions {
  /** At most so many; default 100, at most 10000. */
  readonly count?: number | undefined
  /** Only those after this dead letter: the last id of the page before. */
  readonly after?: string | undefined
}

type RawReplay = ['ADDED', id: string] | ['GONE'] | ['LARGE'] | ['REFUSED', why: string]

const replayDead = new Script(replayDeadLua)

export class ServiceDeadLetters {
  readonly #redis: RedisLike
  readonly #keys: ServiceKeys

  /**
   * Works on the connection it is given, which stays the caller's: it is never closed here.
   * @throws StreamClientError SERVICE_NAME_INVALID, or OPTION_INVALID for a connection with a keyPrefix.
   */
  constructor(redis: RedisLike, service: string) {
    refuseKeyPrefix(redis)
    this.#redis = redis
    this.#keys = resolveServiceKeys(service, { onCluster: isCluster(redis) })
  }

  /**
   * The oldest first. Fewer than `count` where letters are large: there are no more when the list is empty.
   * Rejects with OPTION_INVALID, REDIS_ERROR.
   */
  async list(options: DeadLetterListOptions = {}): Promise<DeadAssignment[]> {
    return await listLetters(
      options,
      async (start, count) => {
        const entries = await this.#run('list', () =>
          this.#redis.xrangeBuffer(this.#keys.dead, start, '+', 'COUNT', count),
        )
        return entries as unknown as RawLetter[]
      },
      readDeadAssignment,
    )
  }

  /** How many there are. Rejects with REDIS_ERROR. */
  count(): Promise<number> {
    return this.#run('count', () => this.#redis.xlen(this.#keys.dead))
  }

  /**
   * Adds the entry to the LBS again, byte for byte, and then drops the dead letter, in one step. An entry with more than
   * 3,500 fields, or longer than a mebibyte, takes two steps, so it can be there twice if the process dies in between or
   * another one replays it at the same time. The entry gets a new id, and is served after what waits of its data stream.
   *
   * Resolves with the new id in the LBS. Rejects with DEAD_LETTER_GONE (replayed or dropped before),
   * LBS_MESSAGE_INVALID (a letter that no client has written: it can only be dropped), REDIS_ERROR. Safe to call again.
   */
  async replay(id: string): Promise<string> {
    const letter = await this.#read(id)
    if (bytesOf(letter) > GREATEST_SCRIPT_BYTES) return await this.#replayLarge(letter)
    const answer = (await this.#run('replay', () =>
      replayDead.run(this.#redis, [this.#keys.dead, this.#keys.lbs], [id]),
    )) as RawReplay
    if (answer[0] === 'GONE') throw gone(id)
    if (answer[0] === 'ADDED') return answer[1]
    if (answer[0] === 'LARGE') return await this.#replayLarge(letter)
    throw unreplayable(id, answer[1])
  }

  async #read(id: string): Promise<RawLetter> {
    const [entry] = (await this.#run('replay', () =>
      this.#redis.xrangeBuffer(this.#keys.dead, id, id),
    )) as unknown as RawLetter[]
    if (entry === undefined) throw gone(id)
    return entry
  }

  /** No script can pass on so many fields, and so many bytes would keep Redis busy for too long. */
  async #replayLarge(letter: RawLetter): Promise<string> {
    const { dead, lbs } = this.#keys
    const { id, rawFields } = readDeadAssignment(letter)
    if (rawFields.length === 0) throw unreplayable(id, 'it has no fields of an entry')
    const added = String(await this.#run('replay', () => this.#redis.xadd(lbs, '*', ...rawFields.flat())))
    if ((await this.#run('replay', () => this.#redis.xdel(dead, id))) === 1) return added
    await this.#run('replay', () => this.#redis.xdel(lbs, added))
    throw gone(id)
  }

  /** Removes a dead letter for good. Rejects with DEAD_LETTER_GONE, REDIS_ERROR. */
  async drop(id: string): Promise<void> {
    const dropped = await this.#run('drop', () => this.#redis.xdel(this.#keys.dead, id))
    if (dropped === 0) throw gone(id)
  }

  async #run<T>(operation: string, command: () => Promise<T>): Promise<T> {
    try {
      return await command()
    } catch (error) {
      if (isReply(error) && error.message.includes('Invalid stream ID')) {
        throw new StreamClientError('OPTION_INVALID', `${operation}: that is no id of a dead letter`, {
          operation,
        })
      }
      throw redisError(`${operation} of ${this.#keys.dead}`, error)
    }
  }
}

function readDeadAssignment([id, flat]: RawLetter): DeadAssignment {
  const letter = new Map(pairsOf(flat).map(([name, value]) => [name.toString(), value]))
  const text = (name: string): string => letter.get(name)?.toString() ?? ''
  const rawFields = decodeLetterFields(letter.get('fields'))
  const fields = rawFields.map(([name, value]) => [name.toString(), value.toString()] as const)
  return {
    id: id.toString(),
    dataStreamName: nameIn(fields),
    idInLbs: text('id'),
    fields,
    rawFields,
    reason: text('reason'),
    error: text('error'),
    atMs: Number(text('at')),
    owner: text('client'),
  }
}

function nameIn(fields: readonly (readonly [name: string, value: string])[]): string | null {
  const message = fields.find(([name]) => name === LBS_FIELD)?.[1]
  try {
    return message === undefined ? null : decodeLbsMessage(message).dataStreamName
  } catch {
    return null
  }
}

function unreplayable(id: string, why: string): StreamClientError {
  return new StreamClientError(
    'LBS_MESSAGE_INVALID',
    `the dead letter ${id} cannot be replayed, only dropped: ${why}`,
    { id },
  )
}

function gone(id: string): StreamClientError {
  return new StreamClientError('DEAD_LETTER_GONE', `there is no dead letter ${id}`, { id })
}
