/** Adds data streams to the LBS of a service. */
import {
  encodeLbsMessage,
  type JsonObject,
  type LbsMessage,
  StreamClientError,
} from '@redis-stream-client/notifs'
import { type LbsLimits, limitProblem } from './decisions/lbs-limits.js'
import { type ProducerOptions, resolveProducerOptions } from './options.js'
import { isCluster, type RedisLike } from './redis/duplicate.js'
import { DeadlineError, redisError } from './redis/redis-errors.js'
import { LBS_FIELD, reservedNameProblem, resolveServiceKeys, type ServiceKeys } from './service-keys.js'

const ADD_TIMEOUT_MS = 10_000

export class LbsProducer {
  readonly #redis: RedisLike
  readonly #keys: ServiceKeys
  readonly #limits: LbsLimits

  /**
   * Works on the connection it is given, which stays the caller's: it is never closed here.
   * @throws StreamClientError SERVICE_NAME_INVALID, or OPTION_INVALID for an option or a connection with a keyPrefix.
   */
  constructor(redis: RedisLike, service: string, options: ProducerOptions = {}) {
    refuseKeyPrefix(redis)
    this.#limits = resolveProducerOptions(options)
    this.#redis = redis
    this.#keys = resolveServiceKeys(service, { onCluster: isCluster(redis) })
  }

  /**
   * Adds a data stream; some client will own it. A name that was added before is served again after what was added
   * first is done.
   *
   * Resolves with the id of the LBS entry. Rejects with LBS_MESSAGE_INVALID for a name or info that cannot be sent or is
   * longer than the options allow, or a name that is a key of the service; with REDIS_ERROR if Redis refuses or does not answer within 10 s; then the entry may
   * have been added or not, and adding again is safe where serving the stream twice is.
   */
  async add(dataStreamName: string, info?: JsonObject): Promise<string> {
    const message = this.#encode(info === undefined ? { dataStreamName } : { dataStreamName, info })
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

  #encode(message: LbsMessage): string {
    const text = encodeLbsMessage(message)
    const problem = limitProblem(message, this.#limits, Buffer.byteLength(text))
    if (problem !== null) throw new StreamClientError('LBS_MESSAGE_INVALID', problem)
    const { dataStreamName } = message
    const reserved = reservedNameProblem(this.#keys.service, dataStreamName)
    if (reserved !== null) {
      throw new StreamClientError('LBS_MESSAGE_INVALID', `LBS message invalid: ${reserved}`, {
        dataStreamName,
      })
    }
    return text
  }
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
