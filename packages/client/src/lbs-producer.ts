/** Adds data streams to the LBS of a service. */
import {
  encodeLbsMessage,
  type JsonObjectWithBigInts,
  type NewLbsMessage,
  StreamClientError,
} from '@redis-stream-client/notifs'
import { CallOrder } from './async/call-order.js'
import { limitProblem } from './decisions/lbs-limits.js'
import type { InfoOutcome } from './info-schema.js'
import { type ProducerOptions, type ResolvedProducerOptions, resolveProducerOptions } from './options.js'
import { isCluster, type RedisLike } from './redis/duplicate.js'
import { DeadlineError, redisError } from './redis/redis-errors.js'
import { LBS_FIELD, reservedNameProblem, resolveServiceKeys, type ServiceKeys } from './service-keys.js'

const ADD_TIMEOUT_MS = 10_000
/** What a message gains with an Info, beside the Info. */
const INFO_FRAME_BYTES = ',"Info":'.length

/** `Info` is what `infoSchema` takes, where one is given. */
export class LbsProducer<Info = JsonObjectWithBigInts> {
  readonly #redis: RedisLike
  readonly #keys: ServiceKeys
  readonly #options: ResolvedProducerOptions
  /** Of calls whose Info is checked by a schema that takes its time. */
  readonly #order = new CallOrder()

  /**
   * Works on the connection it is given, which stays the caller's: it is never closed here.
   * @throws StreamClientError SERVICE_NAME_INVALID, or OPTION_INVALID for an option or a connection with a keyPrefix.
   */
  constructor(redis: RedisLike, service: string, options: ProducerOptions<Info> = {}) {
    refuseKeyPrefix(redis)
    this.#options = resolveProducerOptions(options)
    this.#redis = redis
    this.#keys = resolveServiceKeys(service, { onCluster: isCluster(redis) })
  }

  /**
   * Adds a data stream; some client will own it. A name that was added before is served again after what was added
   * first is done.
   *
   * An integer beyond Number.MAX_SAFE_INTEGER can be given as a bigint; the owner is handed its decimal text.
   *
   * Resolves with the id of the LBS entry. Rejects with LBS_MESSAGE_INVALID for a name or info that cannot be sent (a lone
   * surrogate in the name, for instance), is longer than the options allow or does not fit `infoSchema`, or a name that is a
   * key of the service; with REDIS_ERROR if Redis refuses or does not answer within 10 s; then the entry may
   * have been added or not, and adding again is safe where serving the stream twice is.
   */
  async add(dataStreamName: string, info?: Info): Promise<string> {
    const given = info as JsonObjectWithBigInts | undefined
    const message = this.#encode(given === undefined ? { dataStreamName } : { dataStreamName, info: given })
    const checking = this.#options.infoSchema?.checkNew(given)
    if (checking !== undefined) {
      const inTurn = this.#order.wait(checking)
      refuseUnfit(dataStreamName, inTurn instanceof Promise ? await inTurn : inTurn)
    }
    let timer: NodeJS.Timeout | undefined
    try {
      const id = await Promise.race([
        this.#redis.xadd(this.#keys.lbs, '*', LBS_FIELD, message),
        new Promise<never>((_, reject) => {
          timer = setTimeout(() => reject(new DeadlineError(ADD_TIMEOUT_MS)), ADD_TIMEOUT_MS)
        }),
      ])
      return String(id)
    } catch (error) {
      throw redisError(`add ${dataStreamName} to ${this.#keys.lbs}`, error)
    } finally {
      clearTimeout(timer)
    }
  }

  #encode(message: NewLbsMessage): string {
    const text = encodeLbsMessage(message)
    const { dataStreamName, info } = message
    const restBytes = Buffer.byteLength(encodeLbsMessage({ dataStreamName })) + INFO_FRAME_BYTES
    const infoBytes = info === undefined || info === null ? 0 : Buffer.byteLength(text) - restBytes
    const problem = limitProblem({ nameBytes: Buffer.byteLength(dataStreamName), infoBytes }, this.#options)
    if (problem !== null) throw new StreamClientError('LBS_MESSAGE_INVALID', problem)
    const reserved = reservedNameProblem(this.#keys.service, dataStreamName)
    if (reserved !== null) {
      throw new StreamClientError('LBS_MESSAGE_INVALID', `LBS message invalid: ${reserved}`, {
        dataStreamName,
      })
    }
    return text
  }
}

function refuseUnfit(dataStreamName: string, outcome: InfoOutcome): void {
  if (!('problem' in outcome)) return
  throw new StreamClientError('LBS_MESSAGE_INVALID', `LBS message invalid: ${outcome.problem}`, {
    dataStreamName,
  })
}

/** A prefix would rename the keys of plain commands and not those inside scripts and events. */
export function refuseKeyPrefix(redis: RedisLike): void {
  const prefix = isCluster(redis)
    ? (redis.options.keyPrefix ?? redis.options.redisOptions?.keyPrefix)
    : redis.options.keyPrefix
  if (prefix !== undefined && prefix !== '') {
    throw new StreamClientError(
      'OPTION_INVALID',
      `the ioredis option keyPrefix (${JSON.stringify(prefix)}) is not supported: put the prefix into the service name`,
      { option: 'keyPrefix', value: prefix },
    )
  }
}
