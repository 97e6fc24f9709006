/** The schema of Info: any Standard Schema, asked by the clients that read Info and the producers that send it. */
import {
  decodeLbsMessage,
  encodeLbsMessage,
  type JsonObject,
  type JsonObjectWithBigInts,
  type StandardSchema,
  type StandardSchemaResult,
} from '@redis-stream-client/notifs'
import { describeIssues, messageOf, valueIssues } from '@redis-stream-client/notifs/internal'

/** How long a schema may take. After that the Info counts as one that does not fit, or no other would be served. */
const TIMEOUT_MS = 5000
const GREATEST_CHARS = 200

/** What a schema says of an Info: what it makes of it, or what is wrong. */
export type InfoOutcome = { readonly value: unknown } | { readonly problem: string }

export class InfoSchema {
  readonly #schema: StandardSchema
  readonly #timeoutMs: number

  constructor(schema: StandardSchema, { timeoutMs = TIMEOUT_MS }: { readonly timeoutMs?: number } = {}) {
    this.#schema = schema
    this.#timeoutMs = timeoutMs
  }

  /** Answers a promise only where the schema does. Neither throws nor rejects: a schema that does counts as not fitting. */
  check(info: JsonObject): InfoOutcome | Promise<InfoOutcome> {
    try {
      const result = this.#schema['~standard'].validate(info)
      return 'then' in result ? this.#wait(result) : outcomeOf(result)
    } catch (error) {
      return failed(error)
    }
  }

  /** As `check`, for an Info to be sent: what a client will read of it is checked. Throws LBS_MESSAGE_INVALID. */
  checkNew(info: JsonObjectWithBigInts | undefined): InfoOutcome | Promise<InfoOutcome> {
    if (info === undefined) return this.check({})
    const message = decodeLbsMessage(encodeLbsMessage({ dataStreamName: 'any', info }))
    return this.check(message.info ?? {})
  }

  async #wait(answer: PromiseLike<StandardSchemaResult<unknown>>): Promise<InfoOutcome> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<InfoOutcome>((resolve) => {
      const problem = `Info was not checked: infoSchema has not answered within ${this.#timeoutMs} ms`
      timer = setTimeout(() => resolve({ problem }), this.#timeoutMs)
    })
    try {
      return await Promise.race([Promise.resolve(answer).then(outcomeOf), late])
    } catch (error) {
      return failed(error)
    } finally {
      clearTimeout(timer)
    }
  }
}

function outcomeOf(result: StandardSchemaResult<unknown>): InfoOutcome {
  if (result.issues === undefined) return { value: result.value }
  return { problem: `Info does not fit infoSchema: ${describeIssues(valueIssues(result.issues))}` }
}

function failed(error: unknown): InfoOutcome {
  return {
    problem: `Info was not checked: infoSchema has failed: ${messageOf(error).slice(0, GREATEST_CHARS)}`,
  }
}
