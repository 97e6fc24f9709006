/** Carries out the application's `claim` calls of a session: those of the same turn travel together. */
import { type LbsInfo, StreamClientError } from '@redis-stream-client/notifs'
import { MicroBatch } from '../async/micro-batch.js'
import type { Clock } from '../decisions/clock.js'
import type { SafeRecorder, TakeOutcome } from '../metrics.js'
import type { FoundEntry, Lbs, ReadableEntry } from '../redis/lbs.js'
import { BATCH_LIMIT } from '../redis/service-scripts.js'
import { entryParts } from '../session/entry-parts.js'
import type { Retries } from '../session/retries.js'
import type { Session } from '../session/session.js'
import type { DeadLetters } from './dead-letters.js'
import type { Ownership } from './ownership.js'
import type { StreamHandle } from './stream-handle.js'
import type { StreamTaker, Taken } from './stream-taker.js'

const ENTRY_ID = /^(\d{1,20})-(\d{1,20})$/
const GREATEST_ID_PART = 2n ** 64n - 1n

export interface ClaimRequestsContext {
  readonly session: Session
  readonly lbs: Lbs
  readonly retries: Retries
  readonly taker: StreamTaker
  readonly deadLetters: DeadLetters
  readonly ownership: Ownership
  readonly clock: Clock
  readonly recorder: SafeRecorder
}

/** What became of one request, or why it could not be sent. */
type Result = Taken | StreamClientError

export class ClaimRequests {
  readonly #context: ClaimRequestsContext
  readonly #batch = new MicroBatch<LbsInfo, Result>(BATCH_LIMIT, (payloads) => this.#claim(payloads))

  constructor(context: ClaimRequestsContext) {
    this.#context = context
  }

  /** Claims one stream. Rejects as RedisStreamClient.claim does. */
  async claim(payload: LbsInfo): Promise<StreamHandle> {
    const { ownership } = this.#context
    const { dataStreamName, idInLbs } = payload
    const known = ownership.streams.get(dataStreamName)
    if (known?.idInLbs === idInLbs && known.owned) return known
    if (!isEntryId(idInLbs)) throw refusal('gone', payload)
    if (ownership.capacity === 0) {
      const owned = ownership.streams.size
      throw new StreamClientError(
        'CAPACITY_REACHED',
        `this client owns ${owned} streams, as many as maxOwnedStreams allows`,
        {
          owned,
          dataStreamName,
          idInLbs,
        },
      )
    }
    return await ownership.whileReserved(1, () => this.#send(payload))
  }

  async #send(payload: LbsInfo): Promise<StreamHandle> {
    const { clock, recorder } = this.#context
    const startMs = clock.now().monotonicMs
    let outcome: TakeOutcome = 'failed'
    try {
      const taken = await this.#batch.add(payload)
      if (taken instanceof StreamClientError) throw taken
      outcome = taken.outcome
      if (taken.outcome === 'failed') throw taken.error
      if (taken.outcome !== 'taken') throw refusal(taken.outcome, payload)
      return taken.stream
    } finally {
      recorder.claimAttempt({ outcome, durationMs: clock.now().monotonicMs - startMs })
    }
  }

  /** An error applies only to the requests it has hit: what was taken before it stays taken. */
  async #claim(payloads: readonly LbsInfo[]): Promise<Result[]> {
    const ids = payloads.map(({ idInLbs }) => idInLbs)
    const results: Result[] = []
    try {
      for await (const part of entryParts(this.#context, this.#context.session, ids)) {
        const asked = payloads.slice(results.length, results.length + part.length)
        results.push(...(await this.#claimPart(asked, part)))
      }
    } catch (error) {
      if (!(error instanceof StreamClientError)) throw error
      while (results.length < payloads.length) results.push(error)
    }
    return results
  }

  async #claimPart(payloads: readonly LbsInfo[], found: readonly FoundEntry[]): Promise<Taken[]> {
    const { deadLetters, session, taker } = this.#context
    const results: (Taken | null)[] = []
    const entries: ReadableEntry[] = []
    for (const [index, payload] of payloads.entries()) {
      const entry = found[index]?.entry ?? null
      if (entry !== null && 'problem' in entry) {
        await deadLetters.buryUnreadable(session, [entry])
        results.push({ outcome: 'dead-lettered' })
      } else if (entry !== null && entry.message.dataStreamName !== payload.dataStreamName) {
        results.push({ outcome: 'gone' })
      } else {
        // One that is not in the LBS any more is sent too: the script then frees its stream.
        entries.push(entry ?? { id: payload.idInLbs, message: { dataStreamName: payload.dataStreamName } })
        results.push(null)
      }
    }
    const taken = await taker.take(entries, 'claim')
    let next = 0
    return results.map((result) => result ?? (taken[next++] as Taken))
  }
}

function isEntryId(text: string): boolean {
  const parts = ENTRY_ID.exec(text)?.slice(1) ?? []
  return parts.length === 2 && parts.every((part) => BigInt(part) <= GREATEST_ID_PART)
}

function refusal(
  outcome: Exclude<Taken['outcome'], 'taken' | 'failed'>,
  { dataStreamName, idInLbs }: LbsInfo,
): StreamClientError {
  const facts = { dataStreamName, idInLbs }
  switch (outcome) {
    case 'already-claimed':
    case 'queued':
    case 'left':
      return new StreamClientError('ALREADY_CLAIMED', 'already claimed', facts)
    case 'gone':
      return new StreamClientError(
        'STREAM_GONE',
        `there is no entry ${idInLbs} of ${dataStreamName} to claim`,
        facts,
      )
    case 'dead-lettered':
      return new StreamClientError('STREAM_GONE', `the entry ${idInLbs} is in the dead letters`, facts)
    default:
      return outcome satisfies never
  }
}
