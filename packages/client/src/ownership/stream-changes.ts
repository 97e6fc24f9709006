/** Carries out `commit`, `done` and `release` of the streams of a session: calls of the same turn travel together. */
import { StreamClientError } from '@redis-stream-client/notifs'
import { MicroBatch } from '../async/micro-batch.js'
import { POOL_OF_REBALANCED } from '../decisions/consumer-name.js'
import type { Offer } from '../decisions/offer.js'
import type { FleetLevel } from '../decisions/water-level.js'
import type { SafeRecorder } from '../metrics.js'
import { BATCH_LIMIT, type ServiceScripts } from '../redis/service-scripts.js'
import type { ChangeAnswer, ReleaseRules } from '../redis/stream-scripts.js'
import { endLost, type Retries } from '../session/retries.js'
import type { Session } from '../session/session.js'
import type { Ownership } from './ownership.js'
import type { StreamHandle, StreamOperations } from './stream-handle.js'

export interface StreamChangesContext {
  readonly session: Session
  /** Aborts when the client closes: from then on it is not given anything any more. */
  readonly closing: AbortSignal
  readonly scripts: ServiceScripts
  readonly retries: Retries
  readonly ownership: Ownership
  readonly recorder: SafeRecorder
  /** For so long this client is not given again what its application gave back by its own choice. */
  readonly lbsIdleTimeMs: number
}

/** What Redis answered for one stream, or that it refused. */
type Result = ChangeAnswer | StreamClientError

interface Commit {
  readonly stream: StreamHandle
  readonly number: number
  readonly checkpoint: string
}

interface Finish {
  readonly stream: StreamHandle
  readonly keepCheckpoint: boolean
}

interface Release {
  readonly stream: StreamHandle
}

export class StreamChanges implements StreamOperations {
  readonly #context: StreamChangesContext
  readonly #commits = new MicroBatch<Commit, Result>(
    BATCH_LIMIT,
    (items) =>
      this.#send('commit', items, (part) =>
        this.#context.scripts.commit(
          this.#context.session,
          part.map(({ stream, number, checkpoint }) => ({ tenure: stream, number, checkpoint })),
        ),
      ),
    (item) => bytesOfName(item) + Buffer.byteLength(item.checkpoint),
  )
  readonly #finishes = new MicroBatch<Finish, Result>(
    BATCH_LIMIT,
    (items) =>
      this.#send('done', items, (part) =>
        this.#context.scripts.finish(
          this.#context.session,
          part.map(({ stream, keepCheckpoint }) => ({
            dataStreamName: stream.dataStreamName,
            idInLbs: stream.idInLbs,
            fencingToken: stream.fencingToken,
            keepCheckpoint,
          })),
        ),
      ),
    bytesOfName,
  )
  /** Streams that this client may be given again: because it leaves, or has no room. */
  readonly #handovers = new MicroBatch<Release, Result>(
    BATCH_LIMIT,
    (items) => this.#release(items, { level: this.levelWithoutUs }),
    bytesOfName,
  )
  /** Streams that owners were asked to give back, because others have fewer. */
  readonly #moves = new MicroBatch<Release, Result>(
    BATCH_LIMIT,
    (items) => this.#release(items, { level: this.levelOfPlan, pool: POOL_OF_REBALANCED }),
    bytesOfName,
  )
  /** Streams that the application does not want: the others come first. */
  readonly #releases = new MicroBatch<Release, Result>(
    BATCH_LIMIT,
    (items) => this.#release(items, { ownMs: this.#context.lbsIdleTimeMs }),
    bytesOfName,
  )
  /** What the others are told when the client leaves; before that what the last round has found. */
  levelWithoutUs: Offer | null = null
  /** What the others are told of streams that owners were asked to give back. */
  levelOfPlan: FleetLevel | null = null

  constructor(context: StreamChangesContext) {
    this.#context = context
  }

  async commit(stream: StreamHandle, checkpoint: string): Promise<void> {
    const number = stream.nextCommit()
    this.#accept(stream, 'commit', await this.#commits.add({ stream, number, checkpoint }))
  }

  async finish(stream: StreamHandle, keepCheckpoint: boolean): Promise<void> {
    await this.#leave(stream, 'done', () => this.#finishes.add({ stream, keepCheckpoint }))
  }

  async release(stream: StreamHandle): Promise<void> {
    const isHandover = this.#context.closing.aborted || stream.isPassedOn
    const batch = isHandover ? this.#handovers : stream.isAskedToStop ? this.#moves : this.#releases
    await this.#leave(stream, 'release', () => batch.add({ stream }))
  }

  #release(items: readonly Release[], rules: ReleaseRules): Promise<Result[]> {
    return this.#send('release', items, (part) =>
      this.#context.scripts.release(
        this.#context.session,
        part.map(({ stream }) => stream),
        rules,
      ),
    )
  }

  async #leave(
    stream: StreamHandle,
    operation: 'done' | 'release',
    send: () => Promise<Result>,
  ): Promise<void> {
    const { ownership, recorder } = this.#context
    let isBehind = false
    try {
      const answer = await send()
      isBehind = answer === 'BEHIND'
      this.#accept(stream, operation, isBehind ? 'OK' : answer)
    } catch (error) {
      recorder.lockRelease({ operation, outcome: 'failed' })
      throw error
    }
    recorder.lockRelease({ operation, outcome: 'ok' })
    ownership.leave(stream, operation)
    if (isBehind) throw replicasBehind(stream, operation)
  }

  /** Acts on an answer. */
  #accept(stream: StreamHandle, operation: string, answer: Result): void {
    if (answer instanceof StreamClientError) throw answer
    const { dataStreamName, idInLbs, fencingToken, session } = stream
    switch (answer) {
      case 'OK':
        return
      case 'BEHIND':
        throw replicasBehind(stream, operation)
      case 'NOT_OWNED':
        this.#context.ownership.disown(stream, 'taken-over')
        throw new StreamClientError(
          'STREAM_NOT_OWNED',
          `${operation}: ${dataStreamName} is not owned any more`,
          {
            dataStreamName,
            idInLbs,
            fencingToken,
          },
        )
      case 'SESSION_LOST':
        throw endLost(operation, session)
      default:
        answer satisfies never
    }
  }

  /** When Redis refuses a batch, each of it is sent alone: one damaged stream must not fail the others. */
  async #send<T>(
    operation: string,
    items: readonly T[],
    send: (part: readonly T[]) => Promise<ChangeAnswer[]>,
  ): Promise<Result[]> {
    const { retries, session } = this.#context
    try {
      return await retries.send(operation, session, () => send(items))
    } catch (error) {
      if (!(error instanceof StreamClientError)) throw error
      if (items.length === 1 || error.code !== 'REDIS_ERROR') return items.map(() => error)
      const results: Result[] = []
      for (const item of items) results.push(...(await this.#send(operation, [item], send)))
      return results
    }
  }
}

function bytesOfName({ stream }: Release): number {
  return Buffer.byteLength(stream.dataStreamName)
}

/** What was asked for is done on the master, and lost if that fails before its replicas have it. */
function replicasBehind(stream: StreamHandle, operation: string): StreamClientError {
  const { dataStreamName, idInLbs, fencingToken } = stream
  return new StreamClientError(
    'REPLICAS_BEHIND',
    `${operation}: done for ${dataStreamName}, but not on as many replicas as asked for`,
    { operation, dataStreamName, idInLbs, fencingToken },
  )
}
