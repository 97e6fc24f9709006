/** The options of the client: what they are, their defaults, and one pure function that checks them. */
import {
  type JsonObject,
  type JsonObjectWithBigInts,
  type StandardSchema,
  StreamClientError,
} from '@redis-stream-client/notifs'
import { isStandardSchema, STANDARD_SCHEMA_RULE } from '@redis-stream-client/notifs/internal'
import type { Logger } from 'pino'
import { z } from 'zod'
import { GREATEST_TIMER_MS } from './async/timer.js'
import { DEFAULT_LIMITS, type LbsLimits } from './decisions/lbs-limits.js'
import { SETTLE_MS } from './decisions/water-level.js'
import { InfoSchema } from './info-schema.js'
import type { MetricsRecorder } from './metrics.js'
import { explainIssue, invalidOption } from './option-errors.js'

/** All durations are milliseconds. `Info` is the type of `additionalInfo`: of what `infoSchema` answers. */
export interface ClientOptions<Info = JsonObject> {
  /** What follows `redis-consumer-` in the client id. Default: POD_NAME, else POD_IP. */
  readonly consumerId?: string | undefined
  /** Time after which a silent client is dead. Default 2000, at least 200. */
  readonly heartbeatTtlMs?: number | undefined
  /** Time after which a pending entry that nobody locked counts as stranded. Default 40000, at least 2 × heartbeatTtlMs. */
  readonly lbsIdleTimeMs?: number | undefined
  /** Page size of the recovery at the start of a session. Default 1000. */
  readonly lbsRecoveryCount?: number | undefined
  /** How many streams this client owns at most. Default: no limit. */
  readonly maxOwnedStreams?: number | undefined
  /** Entries per read of the LBS; five times as many, up to 50, while no other client is alive. Default 10. */
  readonly readCount?: number | undefined
  /** `manual` (default): streams of dead clients are offered as StreamExpired. `auto`: they are claimed without asking. */
  readonly claimMode?: 'manual' | 'auto' | undefined
  /** An application that is told of a stream has three times this to claim it before another is told. Default 150. */
  readonly claimStaggerMs?: number | undefined
  /** Crashes in a row after which an entry goes to the dead letters instead of the next owner. Default: no limit. */
  readonly maxCrashes?: number | undefined
  /** An owner that falls within this time after it took a stream has crashed on it. Default 60000. */
  readonly crashWindowMs?: number | undefined
  /** How often dead clients are looked for. Default heartbeatTtlMs / 4. */
  readonly probeIntervalMs?: number | undefined
  /** `auto` (default): extend the server's notify-keyspace-events, go on without if refused. `off`: leave it alone. */
  readonly keyspaceEvents?: 'auto' | 'off' | undefined
  /** Notifications that wait for the iterator before senders do. Default 500. */
  readonly notificationBufferSize?: number | undefined
  /** Retries of the LBS reader. Default: for ever, from 100 to 30000. */
  readonly retry?: RetryOptions | undefined
  /**
   * How long an owned stream may be neither committed nor touched before it is disowned and given to another client.
   * Default: no limit.
   */
  readonly progressTimeoutMs?: number | undefined
  /**
   * `cooperative` (default): clients that have more than their share are asked to give streams back when others have
   * less. `off`: this client never asks and is never asked.
   */
  readonly rebalance?: 'off' | 'cooperative' | RebalanceOptions | undefined
  /** How many streams this client should own for each one of a client with weight 1. Default 1. 0: takes nothing. */
  readonly weight?: number | undefined
  /** How long `close` and `done` may take. Default 10000. */
  readonly closeTimeoutMs?: number | undefined
  /** How long a consumer that died with nothing pending is kept in the group. Default 3600000. */
  readonly consumerRetentionMs?: number | undefined
  /**
   * Wait until this many replicas have what was taken, committed, finished or released. Default: do not wait.
   * `timeoutMs` is at most heartbeatTtlMs; when it is over, see REPLICAS_BEHIND.
   */
  readonly replicas?: ReplicaOptions | undefined
  /** Longest data stream name that is served, in bytes. Default 65536. */
  readonly maxNameBytes?: number | undefined
  /** Longest Info that is served, in bytes of its JSON. Default 1048576. */
  readonly maxInfoBytes?: number | undefined
  /**
   * `text` (default): an integer in Info beyond Number.MAX_SAFE_INTEGER is handed over as its decimal text. `refuse`:
   * its entry goes to the dead letters if JavaScript would change it.
   */
  readonly infoNumbers?: 'text' | 'refuse' | undefined
  /**
   * Any Standard Schema (zod, valibot, arktype, ...) for Info, `{}` where there is none. An entry that does not fit is not
   * served: it goes to the dead letters, which name what does not fit. `additionalInfo` is what the schema answers. So is an
   * entry for which it throws or has no answer within 5 s.
   */
  readonly infoSchema?: StandardSchema<unknown, Info> | undefined
  /** Dead letters that are kept, about: the oldest go first. Default: all. */
  readonly deadLetterMaxLen?: number | undefined
  /** Any pino logger. Default: a new one on level LOG_LEVEL, else warn. */
  readonly logger?: Logger | undefined
  readonly metrics?: MetricsRecorder | undefined
}

export interface RetryOptions {
  /** Failures in a row after which the reader gives up: -1 never, 0 at once. */
  readonly maxRetries?: number | undefined
  readonly initialDelayMs?: number | undefined
  readonly maxDelayMs?: number | undefined
}

export interface RebalanceOptions {
  /** How long the same clients must have been there before a stream moves. Default 5000. */
  readonly settleMs?: number | undefined
  /** How many streams may be under way to one client at once. Default 64. */
  readonly movesInFlight?: number | undefined
  /** How long an owner that was asked has to release or finish a stream. Default closeTimeoutMs. */
  readonly timeoutMs?: number | undefined
}

export interface ReplicaOptions {
  readonly count: number
  readonly timeoutMs: number
}

/** The limits of a producer: keep them at those of the clients. */
export interface ProducerOptions<Info = JsonObjectWithBigInts>
  extends Pick<ClientOptions, 'maxNameBytes' | 'maxInfoBytes'> {
  /**
   * The schema of the clients, any Standard Schema: an Info that does not fit is refused with LBS_MESSAGE_INVALID, before
   * anything is sent. What the clients will read is checked: Info after JSON, `{}` without one.
   */
  readonly infoSchema?: StandardSchema<Info, unknown> | undefined
}

export interface ResolvedProducerOptions extends LbsLimits {
  /** Null if Info may be anything. */
  readonly infoSchema: InfoSchema | null
}

/**
 * The options with every default filled in. Without a limit `maxOwnedStreams` and `progressTimeoutMs` are Infinity and
 * `maxCrashes` is -1.
 */
export interface ResolvedOptions extends LbsLimits {
  readonly clientId: string
  readonly heartbeatTtlMs: number
  readonly lbsIdleTimeMs: number
  readonly lbsRecoveryCount: number
  readonly maxOwnedStreams: number
  readonly readCount: number
  readonly claimMode: 'manual' | 'auto'
  readonly claimStaggerMs: number
  readonly maxCrashes: number
  readonly crashWindowMs: number
  readonly probeIntervalMs: number
  readonly keyspaceEvents: 'auto' | 'off'
  readonly infoNumbers: 'text' | 'refuse'
  readonly infoSchema: InfoSchema | null
  readonly notificationBufferSize: number
  readonly retry: {
    readonly maxRetries: number
    readonly initialDelayMs: number
    readonly maxDelayMs: number
  }
  readonly progressTimeoutMs: number
  /** Null: off. */
  readonly rebalance: {
    readonly settleMs: number
    readonly movesInFlight: number
    readonly timeoutMs: number
  } | null
  readonly weight: number
  readonly closeTimeoutMs: number
  readonly consumerRetentionMs: number
  readonly replicas: ReplicaOptions | null
  /** Infinity where there is no limit. */
  readonly deadLetterMaxLen: number
}

const LEAST_HEARTBEAT_TTL_MS = 200
const LEAST_PROGRESS_TIMEOUT_MS = 100
const DEFAULT_CLOSE_TIMEOUT_MS = 10_000
const DEFAULT_MOVES_IN_FLIGHT = 64
const GREATEST_WEIGHT = 1000
/** What Redis takes as one value. */
const GREATEST_VALUE_BYTES = 512 * 1024 * 1024

const whole = (least: number, greatest: number = Number.MAX_SAFE_INTEGER) =>
  z
    .custom<number>((value) => isWhole(value) && value >= least && value <= greatest, {
      error: `must be a whole number from ${least} to ${greatest}`,
    })
    .optional()
const duration = (leastMs: number) => whole(leastMs, GREATEST_TIMER_MS)
const choice = <const T extends string>(...values: T[]) =>
  z.enum(values, { error: `must be one of ${values.map((value) => `'${value}'`).join(', ')}` }).optional()

const infoSchema = z.unknown().optional() // checked by resolveInfoSchema
const limits = {
  maxNameBytes: whole(1, GREATEST_VALUE_BYTES),
  maxInfoBytes: whole(2, GREATEST_VALUE_BYTES),
}
const producerSchema = z.strictObject({ ...limits, infoSchema })
const replicas = z.strictObject(
  // Not `whole`: both have to be there.
  { count: whole(1, 1000).unwrap(), timeoutMs: whole(1, GREATEST_TIMER_MS).unwrap() },
  { error: 'must be an object with count and timeoutMs' },
)
const schema = z.strictObject({
  ...limits,
  replicas: replicas.optional(),
  consumerId: z.string({ error: 'must be a text' }).optional(),
  heartbeatTtlMs: duration(LEAST_HEARTBEAT_TTL_MS),
  lbsIdleTimeMs: duration(1),
  lbsRecoveryCount: whole(1, 100_000),
  maxOwnedStreams: z
    .custom<number>((value) => value === Infinity || (isWhole(value) && value >= 1), {
      error: 'must be a whole number of at least 1, or Infinity',
    })
    .optional(),
  readCount: whole(1, 1000),
  claimMode: choice('manual', 'auto'),
  claimStaggerMs: duration(0),
  maxCrashes: whole(0),
  crashWindowMs: duration(1),
  probeIntervalMs: duration(10),
  keyspaceEvents: choice('auto', 'off'),
  infoNumbers: choice('text', 'refuse'),
  infoSchema,
  notificationBufferSize: whole(1, 10_000_000),
  retry: z
    .strictObject(
      { maxRetries: whole(-1), initialDelayMs: duration(1), maxDelayMs: duration(1) },
      { error: 'must be an object with maxRetries, initialDelayMs and maxDelayMs' },
    )
    .optional(),
  progressTimeoutMs: duration(LEAST_PROGRESS_TIMEOUT_MS),
  rebalance: z
    .union(
      [
        z.enum(['off', 'cooperative']),
        z.strictObject({ settleMs: duration(0), movesInFlight: whole(1, 1_000_000), timeoutMs: duration(0) }),
      ],
      { error: "must be 'off', 'cooperative', or an object with settleMs, movesInFlight and timeoutMs" },
    )
    .optional(),
  weight: z
    .custom<number>((value) => typeof value === 'number' && value >= 0 && value <= GREATEST_WEIGHT, {
      error: `must be a number from 0 to ${GREATEST_WEIGHT}`,
    })
    .optional(),
  closeTimeoutMs: duration(0),
  consumerRetentionMs: whole(0),
  deadLetterMaxLen: whole(1),
  logger: z
    .custom<Logger>((value) => typeof value === 'object' && value !== null && 'warn' in value, {
      error: 'must be a pino logger',
    })
    .optional(),
  metrics: z
    .custom<MetricsRecorder>((value) => typeof value === 'object' && value !== null, {
      error: 'must be an object with the methods of MetricsRecorder',
    })
    .optional(),
})

/**
 * Checks the options and fills in the defaults; nothing is corrected in silence.
 * @throws StreamClientError OPTION_INVALID, naming option, value and range, or CONSUMER_ID_MISSING.
 */
export function resolveOptions(
  options: ClientOptions<unknown> = {},
  environment: NodeJS.ProcessEnv = process.env,
): ResolvedOptions {
  const parsed = schema.safeParse(options)
  if (!parsed.success) throw explainIssue(parsed.error.issues[0], options)

  const heartbeatTtlMs = options.heartbeatTtlMs ?? 2000
  const lbsIdleTimeMs = options.lbsIdleTimeMs ?? 40_000
  if (lbsIdleTimeMs < 2 * heartbeatTtlMs) {
    throw invalidOption(
      'lbsIdleTimeMs',
      lbsIdleTimeMs,
      `must be at least 2 × heartbeatTtlMs (${2 * heartbeatTtlMs})`,
    )
  }
  const initialDelayMs = options.retry?.initialDelayMs ?? 100
  const maxDelayMs = options.retry?.maxDelayMs ?? 30_000
  if (maxDelayMs < initialDelayMs) {
    throw invalidOption(
      'retry.maxDelayMs',
      maxDelayMs,
      `must be at least retry.initialDelayMs (${initialDelayMs})`,
    )
  }
  const { replicas = null } = options
  if (replicas !== null && replicas.timeoutMs > heartbeatTtlMs) {
    throw invalidOption(
      'replicas.timeoutMs',
      replicas.timeoutMs,
      `must be at most heartbeatTtlMs (${heartbeatTtlMs})`,
    )
  }
  return {
    clientId: resolveClientId(options.consumerId, environment),
    heartbeatTtlMs,
    lbsIdleTimeMs,
    lbsRecoveryCount: options.lbsRecoveryCount ?? 1000,
    maxOwnedStreams: options.maxOwnedStreams ?? Infinity,
    readCount: options.readCount ?? 10,
    claimMode: options.claimMode ?? 'manual',
    claimStaggerMs: options.claimStaggerMs ?? 150,
    maxCrashes: options.maxCrashes ?? -1,
    crashWindowMs: options.crashWindowMs ?? 60_000,
    probeIntervalMs: options.probeIntervalMs ?? Math.max(10, Math.floor(heartbeatTtlMs / 4)),
    keyspaceEvents: options.keyspaceEvents ?? 'auto',
    infoNumbers: options.infoNumbers ?? 'text',
    infoSchema: resolveInfoSchema(options),
    notificationBufferSize: options.notificationBufferSize ?? 500,
    retry: { maxRetries: options.retry?.maxRetries ?? -1, initialDelayMs, maxDelayMs },
    progressTimeoutMs: options.progressTimeoutMs ?? Infinity,
    rebalance: resolveRebalance(options.rebalance, options.closeTimeoutMs ?? DEFAULT_CLOSE_TIMEOUT_MS),
    weight: options.weight ?? 1,
    closeTimeoutMs: options.closeTimeoutMs ?? DEFAULT_CLOSE_TIMEOUT_MS,
    consumerRetentionMs: options.consumerRetentionMs ?? 3_600_000,
    deadLetterMaxLen: options.deadLetterMaxLen ?? Infinity,
    replicas: replicas === null ? null : { count: replicas.count, timeoutMs: replicas.timeoutMs },
    ...limitsOf(options),
  }
}

/**
 * Checks the options of a producer and fills in the defaults.
 * @throws StreamClientError OPTION_INVALID, naming option, value and range.
 */
export function resolveProducerOptions<Info>(options: ProducerOptions<Info> = {}): ResolvedProducerOptions {
  const parsed = producerSchema.safeParse(options)
  if (!parsed.success) throw explainIssue(parsed.error.issues[0], options)
  return { ...limitsOf(options), infoSchema: resolveInfoSchema(options) }
}

/** @throws StreamClientError OPTION_INVALID for what is no schema. */
export function resolveInfoSchema({ infoSchema }: { readonly infoSchema?: unknown }): InfoSchema | null {
  if (infoSchema === undefined) return null
  if (!isStandardSchema(infoSchema)) throw invalidOption('infoSchema', infoSchema, STANDARD_SCHEMA_RULE)
  return new InfoSchema(infoSchema)
}

function resolveRebalance(
  rebalance: ClientOptions['rebalance'],
  closeTimeoutMs: number,
): ResolvedOptions['rebalance'] {
  if (rebalance === 'off') return null
  const { movesInFlight, settleMs, timeoutMs } = typeof rebalance === 'object' ? rebalance : {}
  return {
    settleMs: settleMs ?? SETTLE_MS,
    movesInFlight: movesInFlight ?? DEFAULT_MOVES_IN_FLIGHT,
    timeoutMs: timeoutMs ?? closeTimeoutMs,
  }
}

function limitsOf(options: Partial<Record<keyof LbsLimits, number | undefined>>): LbsLimits {
  return {
    maxNameBytes: options.maxNameBytes ?? DEFAULT_LIMITS.maxNameBytes,
    maxInfoBytes: options.maxInfoBytes ?? DEFAULT_LIMITS.maxInfoBytes,
  }
}

function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value)
}

function resolveClientId(consumerId: string | undefined, environment: NodeJS.ProcessEnv): string {
  const id = consumerId ?? (environment['POD_NAME'] || environment['POD_IP'])
  if (id === undefined || (id === '' && consumerId === undefined)) {
    throw new StreamClientError(
      'CONSUMER_ID_MISSING',
      'no consumer id: set the option consumerId, or POD_NAME (on Kubernetes from metadata.name), or POD_IP',
    )
  }
  if (!/^[^\s\p{Cc}\p{Cs}]{1,253}$/u.test(id)) {
    throw invalidOption('consumerId', id, 'must be 1 to 253 characters without white space')
  }
  return `redis-consumer-${id}`
}
