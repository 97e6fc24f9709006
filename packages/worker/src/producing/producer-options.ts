/** The options of a producer: what they are, their defaults, and one pure function that checks them. */

import type { JsonObjectWithBigInts } from '@redis-stream-client/client'
import {
  GREATEST_TIMER_MS,
  type InfoSchema,
  invalidOption,
  resolveInfoSchema,
  unknownOption,
} from '@redis-stream-client/client/internal'
import {
  resolveValues,
  type StandardSchema,
  type StreamRecord,
  type ValueReader,
} from '@redis-stream-client/handling'

export interface ProducerOptions<Input = unknown, Info = JsonObjectWithBigInts> {
  /**
   * The schema of the worker, any Standard Schema: a record whose value does not fit is refused with RECORD_INVALID, before
   * anything is sent. The value is what the worker will find: the JSON of the record, or what `decode` makes of it.
   */
  readonly schema?: StandardSchema<Input, unknown> | undefined
  /** The `decode` of the worker. A record that cannot be decoded is refused. */
  readonly decode?: ((record: StreamRecord) => unknown) | undefined
  /**
   * The `infoSchema` of the clients, any Standard Schema: an `info` that does not fit is refused with RECORD_INVALID, before
   * anything is sent. So is a call without one that may assign the stream, if `{}` does not fit.
   */
  readonly infoSchema?: StandardSchema<Info, unknown> | undefined
  /**
   * `needed` (default): the first record assigns the stream, and a later one does if the stream was finished. `never`:
   * only `announce` assigns it.
   */
  readonly announce?: 'needed' | 'never' | undefined
  /** Greatest size of a record: its fields and values in UTF-8. Default 1 MiB. */
  readonly maxRecordBytes?: number | undefined
  /** About how many records a data stream keeps. What is not committed is never cut. Default: all. */
  readonly maxLen?: number | undefined
  /** Cuts to `maxLen` whatever is committed: records may be lost. Default false. */
  readonly mayCutUncommitted?: boolean | undefined
  /** How long an idempotency key is remembered. Default 3600000. */
  readonly idempotencyWindowMs?: number | undefined
  /** Records on their way to Redis; more wait. Default 1000. */
  readonly maxInFlight?: number | undefined
  /** Bytes of the records on their way to Redis; more wait. One record always goes. Default 64 MiB. */
  readonly maxInFlightBytes?: number | undefined
  /** Deadline of each command. Default 10000. */
  readonly commandTimeoutMs?: number | undefined
}

export interface ResolvedProducerOptions {
  /** Null if records may have any value. */
  readonly values: ValueReader | null
  /** Null if Info may be anything. */
  readonly infoSchema: InfoSchema | null
  readonly announce: 'needed' | 'never'
  readonly maxRecordBytes: number
  readonly maxLen: number | null
  readonly mayCutUncommitted: boolean
  readonly idempotencyWindowMs: number
  readonly maxInFlight: number
  readonly maxInFlightBytes: number
  readonly commandTimeoutMs: number
}

/** The greatest string Redis takes by default (proto-max-bulk-len). */
const GREATEST_RECORD_BYTES = 512 * 1024 * 1024

const KNOWN: ReadonlySet<string> = new Set([
  'schema',
  'decode',
  'infoSchema',
  'announce',
  'maxRecordBytes',
  'maxLen',
  'mayCutUncommitted',
  'idempotencyWindowMs',
  'maxInFlight',
  'maxInFlightBytes',
  'commandTimeoutMs',
])

/** @throws StreamClientError OPTION_INVALID, naming option, value and rule. */
export function resolveProducerOptions<Input, Info>(
  options: ProducerOptions<Input, Info>,
): ResolvedProducerOptions {
  for (const name of Object.keys(options)) {
    if (!KNOWN.has(name)) throw unknownOption(name)
  }
  const { announce = 'needed', mayCutUncommitted = false } = options
  if (announce !== 'needed' && announce !== 'never') {
    throw invalidOption('announce', announce, "must be one of 'needed', 'never'")
  }
  if (typeof mayCutUncommitted !== 'boolean') {
    throw invalidOption('mayCutUncommitted', mayCutUncommitted, 'must be true or false')
  }
  const whole = (name: keyof ProducerOptions, byDefault: number, greatest: number): number => {
    const value = options[name] ?? byDefault
    if (!Number.isSafeInteger(value) || (value as number) < 1 || (value as number) > greatest) {
      throw invalidOption(name, value, `must be a whole number from 1 to ${greatest}`)
    }
    return value as number
  }
  return {
    announce,
    mayCutUncommitted,
    values: resolveValues(options),
    infoSchema: resolveInfoSchema(options),
    maxRecordBytes: whole('maxRecordBytes', 1024 * 1024, GREATEST_RECORD_BYTES),
    maxLen: options.maxLen === undefined ? null : whole('maxLen', 1, Number.MAX_SAFE_INTEGER),
    idempotencyWindowMs: whole('idempotencyWindowMs', 3_600_000, GREATEST_TIMER_MS),
    maxInFlight: whole('maxInFlight', 1000, 1_000_000),
    maxInFlightBytes: whole('maxInFlightBytes', 64 * 1024 * 1024, Number.MAX_SAFE_INTEGER),
    commandTimeoutMs: whole('commandTimeoutMs', 10_000, GREATEST_TIMER_MS),
  }
}
