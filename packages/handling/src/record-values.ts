/** Makes of a record what its handler works with: decoded, then checked by a schema. */
import { invalidOption } from '@redis-stream-client/client/internal'
import type { StandardSchema, StandardSchemaResult, ValueIssue } from '@redis-stream-client/notifs'
import {
  describeIssues,
  isStandardSchema,
  STANDARD_SCHEMA_RULE,
  valueIssues,
} from '@redis-stream-client/notifs/internal'
import { isNonRetryable, NonRetryableError, RetryAfterError } from './failures.js'
import type { StreamRecord, ValueOutcome, ValueReader } from './stream-record.js'

/** A record cannot be decoded, or does not fit its schema. Not retried: it will not get better. */
export class RecordValueError extends NonRetryableError {
  readonly dataStreamName: string
  readonly recordId: string
  /** What does not fit, where the schema has said so; empty if the record could not be decoded. */
  readonly issues: readonly ValueIssue[]
  /** What is wrong, without the name of the record. */
  readonly problem: string

  constructor(
    { dataStreamName, id }: Pick<StreamRecord, 'dataStreamName' | 'id'>,
    problem: string,
    { cause, issues = [] }: { cause?: unknown; issues?: readonly ValueIssue[] } = {},
  ) {
    super(`record ${id} of ${dataStreamName} ${problem}`, cause === undefined ? undefined : { cause })
    this.name = 'RecordValueError'
    this.dataStreamName = dataStreamName
    this.recordId = id
    this.issues = issues
    this.problem = problem
  }
}

interface ValueOptions {
  /** Default: `record.json()`. */
  readonly decode: ((record: StreamRecord) => unknown) | null
  readonly schema: StandardSchema | null
}

/**
 * What the options `decode` and `schema` make of records; null if neither is given.
 * @throws StreamClientError OPTION_INVALID, naming option, value and rule.
 */
export function resolveValues({
  decode,
  schema,
}: {
  decode?: unknown
  schema?: unknown
}): ValueReader | null {
  if (decode === undefined && schema === undefined) return null
  if (decode !== undefined && typeof decode !== 'function') {
    throw invalidOption('decode', decode, 'must be a function')
  }
  if (schema !== undefined && !isStandardSchema(schema)) {
    throw invalidOption('schema', schema, STANDARD_SCHEMA_RULE)
  }
  return new RecordValues({
    decode: (decode as ValueOptions['decode'] | undefined) ?? null,
    schema: schema ?? null,
  })
}

class RecordValues implements ValueReader {
  readonly #decode: (record: StreamRecord) => unknown
  readonly #schema: StandardSchema | null

  constructor({ decode, schema }: ValueOptions) {
    this.#decode = decode ?? ((record) => record.json())
    this.#schema = schema
  }

  /** Answers a promise only where `decode` or the schema does. Neither throws nor rejects. */
  read(record: StreamRecord): ValueOutcome | Promise<ValueOutcome> {
    try {
      const decoded = this.#decode(record)
      if (isPromise(decoded)) return this.#finish(record, decoded)
      const checked = this.#check(decoded)
      return isPromise(checked) ? this.#conclude(record, checked) : outcomeOf(record, checked)
    } catch (error) {
      return { error: unreadable(record, error) }
    }
  }

  async #finish(record: StreamRecord, decoding: PromiseLike<unknown>): Promise<ValueOutcome> {
    try {
      return outcomeOf(record, await this.#check(await decoding))
    } catch (error) {
      return { error: unreadable(record, error) }
    }
  }

  async #conclude(
    record: StreamRecord,
    checking: PromiseLike<StandardSchemaResult<unknown>>,
  ): Promise<ValueOutcome> {
    try {
      return outcomeOf(record, await checking)
    } catch (error) {
      return { error: unreadable(record, error) }
    }
  }

  #check(value: unknown): StandardSchemaResult<unknown> | PromiseLike<StandardSchemaResult<unknown>> {
    return this.#schema === null ? { value } : this.#schema['~standard'].validate(value)
  }
}

function outcomeOf(record: StreamRecord, result: StandardSchemaResult<unknown>): ValueOutcome {
  if (result.issues === undefined) return { value: result.value }
  const issues = valueIssues(result.issues)
  return {
    error: new RecordValueError(record, `does not fit its schema: ${describeIssues(issues)}`, { issues }),
  }
}

/** What `decode` throws is not retried, unless it asks for that: what it needs may be away for a moment. */
function unreadable(record: StreamRecord, error: unknown): unknown {
  if (isNonRetryable(error) || error instanceof RetryAfterError) return error
  const why = error instanceof Error ? error.message : String(error)
  return new RecordValueError(record, `cannot be decoded: ${why}`, { cause: error })
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}
