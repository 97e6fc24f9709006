/**
 * Runs a handler of a worker on records that a test gives, without Redis. Attempts, retries, timeouts, batches and dead
 * letters are decided by the code of the worker.
 */
import type { Fence } from '@redis-stream-client/client/internal'
import { comparePositions, type RawRecord } from '@redis-stream-client/handling'
import type {
  HandledOutcome,
  JsonObject,
  RecordContext,
  StreamRecord,
  WorkerMiddleware,
  WorkerOptions,
} from '@redis-stream-client/worker'
import { runAlone, type ScriptCommand, type TransactAnswer } from '@redis-stream-client/worker/internal'
import { FakeStream, type FakeStreamOptions } from './fake-stream.js'
import { TestingError } from './testing-error.js'

/** A record to be handled: its fields, or a value that is sent as `addJson` does. Ids are 1-0, 2-0, ... by default. */
export type TestRecord =
  | {
      readonly id?: string
      readonly fields: Readonly<Record<string, string | number>>
      readonly json?: never
    }
  | { readonly id?: string; readonly json: unknown; readonly fields?: never }

export interface RunHandlerOptions extends Pick<FakeStreamOptions, 'additionalInfo' | 'fencingToken'> {
  /** Name of the data stream; `test-stream` by default. */
  readonly dataStreamName?: string | undefined
  /** The number of the first attempt at the first record: as if earlier ones had failed. Default 1. */
  readonly attempt?: number | undefined
  /** Its abort is the `close` of a worker: no record begins any more, a handler that runs gets `drainMs`. */
  readonly signal?: AbortSignal | undefined
  /** The stream to work on, for a test that disowns it meanwhile. The options above are then the stream's. */
  readonly stream?: FakeStream | undefined
  /** What a worker is given with `use`, in that order. */
  readonly middleware?: readonly WorkerMiddleware[] | undefined
  /**
   * What Redis answers to a command of a transaction, such as `['hincrby', 'balances', 'a', '5']`; if it throws, Redis
   * refuses the command. Without it a transaction resolves with null, as one whose answer was lost.
   */
  readonly reply?: ((command: readonly string[]) => unknown) | undefined
}

/** One call of the handler. */
export interface HandlerCall {
  /** Ids of the records it got. */
  readonly records: readonly string[]
  readonly attempt: number
  readonly outcome: HandledOutcome
  /** What it threw; undefined if it did not. */
  readonly error: unknown
}

export interface HandlerResult {
  readonly calls: readonly HandlerCall[]
  /** Records that are tried again, and after how long. The delays are not waited for. */
  readonly retries: readonly { recordId: string; attempt: number; delayMs: number; error: unknown }[]
  readonly deadLetters: readonly { recordId: string; attempts: number; error: unknown }[]
  /** Commands that were executed together with the commit of `recordId`. */
  readonly transactions: readonly { recordId: string; commands: readonly (readonly string[])[] }[]
  /** Records whose handler did not come to an end in time and was left to itself. */
  readonly abandoned: readonly string[]
  /** Positions that were committed, in order. */
  readonly commits: readonly string[]
  /** The last record that is done with; null if there is none. */
  readonly position: string | null
  /** True if the handler or `isLast` has said that the last record was the last of the stream. */
  readonly isFinished: boolean
  /** True if the stream does not go on: `onExhausted: 'halt'`. */
  readonly isHalted: boolean
  /** What the worker would have reported as the event `error`. */
  readonly errors: readonly Error[]
}

type Process<Value, Info> = (record: StreamRecord<Value>, context: RecordContext<Value, Info>) => unknown
type Handled = { -readonly [Name in keyof HandlerCall]: HandlerCall[Name] }

/**
 * Hands the records to a handler, in order, as a worker does that owns their stream. `handler` is a `process` function, or
 * the options of a worker: retries, timeouts, batches, `schema`, `decode`, `isLast` and `onExhausted` are kept to; what needs
 * Redis or several streams (rate limits, the circuit breaker, concurrency) is not. Nor is `client.infoSchema`: the handler
 * gets `additionalInfo` as it is given.
 *
 * Resolves when all records are done with or in the dead letters, or the stream does not go on. Rejects with a
 * StreamClientError OPTION_INVALID for options that a worker refuses, and with a TestingError OPTION_INVALID for others.
 */
export async function runHandler<Decoded = unknown, Value = Decoded, Info = JsonObject>(
  handler: Process<Value, Info> | WorkerOptions<Decoded, Value, Info>,
  records: readonly TestRecord[],
  options: RunHandlerOptions = {},
): Promise<HandlerResult> {
  const workerOptions = typeof handler === 'function' ? { process: handler } : handler
  const raw = toRaw(records)
  const stream = options.stream ?? makeStream(raw, options)
  const seen = new Seen(options.reply)
  const { position, state, isFinished } = await runAlone({
    options: seen.watch(workerOptions as WorkerOptions),
    stream,
    fence: fenceOf(stream),
    read: (after, count) => raw.filter(([id]) => comparePositions(id.toString(), after) > 0).slice(0, count),
    transact: async (commands, checkpoint) => {
      const answer = seen.execute(commands, positionOf(checkpoint) ?? '')
      if (answer.status !== 'REFUSED') await stream.commit(checkpoint)
      return answer
    },
    emit: (event, payload) => seen.note(event, payload),
    onHandled: (outcome) => seen.handled(outcome),
    middleware: options.middleware ?? [],
    signal: options.signal,
  })
  const commits = stream.commits.map((checkpoint) => positionOf(checkpoint) ?? '')
  const done = position === '0-0' ? null : position
  return { ...seen.result, commits, position: done, isFinished, isHalted: state === 'halted' }
}

/** What was seen of a handler at work. */
class Seen {
  readonly result = {
    calls: [] as Handled[],
    retries: [] as HandlerResult['retries'][number][],
    deadLetters: [] as HandlerResult['deadLetters'][number][],
    transactions: [] as HandlerResult['transactions'][number][],
    abandoned: [] as string[],
    errors: [] as Error[],
  }
  readonly #reply: RunHandlerOptions['reply']

  constructor(reply: RunHandlerOptions['reply']) {
    this.#reply = reply
  }

  /** The same options with a handler whose calls are noted. */
  watch(options: WorkerOptions): WorkerOptions {
    const { process, processBatch } = options
    return {
      ...options,
      ...(typeof process === 'function' ? { process: this.#watched(process, (record) => [record]) } : {}),
      ...(typeof processBatch === 'function'
        ? { processBatch: this.#watched(processBatch, (records) => records) }
        : {}),
    }
  }

  handled(outcome: HandledOutcome): void {
    const call = this.result.calls.at(-1)
    if (call !== undefined) call.outcome = outcome
  }

  note(event: string, payload: unknown): void {
    const facts = payload as {
      recordId: string
      attempt: number
      attempts: number
      delayMs: number
      error: unknown
    }
    const { attempt, attempts, delayMs, error, recordId } = facts
    if (event === 'retry') this.result.retries.push({ recordId, attempt, delayMs, error })
    if (event === 'deadLetter') this.result.deadLetters.push({ recordId, attempts, error })
    if (event === 'abandoned') this.result.abandoned.push(recordId)
    if (event === 'error') this.result.errors.push(payload as Error)
  }

  execute(commands: readonly ScriptCommand[], recordId: string): TransactAnswer {
    if (commands.length === 0) return { status: 'OK', replies: [] }
    const texts = commands.map(({ words }) => words.map(String))
    const replies: unknown[] = []
    for (const [index, text] of texts.entries()) {
      try {
        replies.push(this.#reply?.(text))
      } catch (error) {
        // Those before it remain: Redis has no rollback.
        if (index > 0) this.result.transactions.push({ recordId, commands: texts.slice(0, index) })
        const problem = error instanceof Error ? error.message : String(error)
        return { status: 'REFUSED', index: index + 1, error: problem }
      }
    }
    this.result.transactions.push({ recordId, commands: texts })
    return this.#reply === undefined ? { status: 'DONE' } : { status: 'OK', replies }
  }

  #watched<Subject>(
    handler: (subject: Subject, context: RecordContext) => unknown,
    recordsOf: (subject: Subject) => readonly StreamRecord[],
  ): (subject: Subject, context: RecordContext) => Promise<unknown> {
    return async (subject, context) => {
      const call: Handled = {
        records: recordsOf(subject).map(({ id }) => id),
        attempt: context.attempt,
        outcome: 'ok',
        error: undefined,
      }
      this.result.calls.push(call)
      try {
        return await handler(subject, context)
      } catch (error) {
        call.error = error
        throw error
      }
    }
  }
}

function makeStream(raw: readonly RawRecord[], options: RunHandlerOptions): FakeStream {
  const { attempt = 1, dataStreamName = 'test-stream', additionalInfo, fencingToken } = options
  if (!(Number.isInteger(attempt) && attempt >= 1)) {
    throw invalid(`the option attempt must be a whole number of at least 1, not ${attempt}`)
  }
  const [first] = raw
  const times = { firstAtMs: 0, lastAtMs: 0, dueAtMs: 0 }
  const failed = { id: first?.[0], attempts: attempt - 1, ...times, error: 'failed before the test' }
  const checkpoint = attempt === 1 || first === undefined ? null : JSON.stringify({ id: '0-0', n: 0, failed })
  return new FakeStream(dataStreamName, { additionalInfo, fencingToken, checkpoint })
}

function toRaw(records: readonly TestRecord[]): RawRecord[] {
  let last = '0-0'
  return records.map((record, index) => {
    const id = record.id ?? `${Number(last.split('-')[0]) + 1}-0`
    if (!/^\d+-\d+$/.test(id) || comparePositions(id, last) <= 0) {
      throw invalid(`record ${index} has the id ${id}: ids are like 7-0, each greater than the one before`)
    }
    last = id
    if ((record.fields === undefined) === (record.json === undefined)) {
      throw invalid(`record ${index} must have fields or json, and not both`)
    }
    const fields = record.fields ?? { data: JSON.stringify(record.json) }
    return [
      id,
      Object.entries(fields).flatMap(([name, value]) => [
        name,
        typeof value === 'object' ? Buffer.from(value) : String(value),
      ]),
    ]
  })
}

function fenceOf(stream: FakeStream): Fence {
  let commits = 0
  const { dataStreamName, fencingToken, idInLbs } = stream
  return {
    ...{ dataStreamName, fencingToken, idInLbs },
    ...{ clientId: 'redis-consumer-test', token: 'test', ownerFell: false },
    isHeld: () => stream.owned,
    sessionSignal: stream.signal,
    nextCommit: () => ++commits,
  }
}

function positionOf(checkpoint: string): string | null {
  const { id } = JSON.parse(checkpoint) as { id?: string }
  return id ?? null
}

function invalid(problem: string): TestingError {
  return new TestingError('OPTION_INVALID', `runHandler: ${problem}`)
}
