/**
 * How a worker leaves a stream:
 *
 *   finished: the last position is committed, the data stream kept or deleted, the assignment closed
 *   released: the last position is committed, the stream goes to somebody else
 *
 * Before the first step a mark with the assignment's LBS id is committed: after a crash the next owner only closes
 * the assignment (if nobody said that it was finished, after another look), and a later assignment of a stream that was
 * kept ignores the mark and goes on from the position.
 */
import { type OwnedStream, StreamClientError } from '@redis-stream-client/client'
import { backoffMs, messageOf, type SafeLogger, sleep } from '@redis-stream-client/client/internal'
import { comparePositions } from '@redis-stream-client/handling'
import type { StreamEnd } from '../contract/worker-metrics.js'
import { isLoss } from '../handling/turns.js'
import type { StreamRun } from '../progress/stream-run.js'
import type { WorkerScripts } from '../redis/worker-scripts.js'

export interface StreamEndingsContext {
  readonly scripts: WorkerScripts
  readonly onDone: 'keep' | 'delete'
  readonly logger: SafeLogger
  readonly signal: AbortSignal
  /** Assigns the stream anew. */
  readonly announce: (stream: OwnedStream) => Promise<void>
  readonly onEnd: (run: StreamRun, how: StreamEnd) => void
}

const RETRY_PAUSE_MS = 200
const GREATEST_PAUSE_MS = 5000

export class StreamEndings {
  readonly #context: StreamEndingsContext

  constructor(context: StreamEndingsContext) {
    this.#context = context
  }

  /**
   * Finishes a stream. `isCertain`: somebody said so; otherwise it was only idle, and goes on if a record has come
   * in the meantime. Never rejects.
   */
  async finish(run: StreamRun, isCertain: boolean): Promise<void> {
    if (!run.beginEnding()) return
    await run.whenIdle()
    let isClosed = false
    await this.#persist(run, 'finished', async () => {
      run.markFinished(isCertain)
      await run.commit()
      // After the mark: a RecordProducer that finds it assigns the stream anew, so what it adds from now on is not ours.
      if (!isCertain && (await this.#hasNewer(run))) return await this.#callOff(run)
      const isDeleted = await this.#deleteData(run)
      run.isHandedBack = true
      await run.stream.done({ keepCheckpoint: !isDeleted })
      isClosed = true
      this.#context.onEnd(run, 'finished')
    })
    if (isClosed && !isCertain) await this.#assignAnew(run)
    if (isClosed) await this.#forgetAnnounced(run)
  }

  /** Never rejects: what is not forgotten here, later announcements forget. */
  async #forgetAnnounced({ name }: StreamRun): Promise<void> {
    try {
      await this.#context.scripts.forgetAnnounced(name)
    } catch (error) {
      this.#context.logger.debug(
        { dataStreamName: name, error: messageOf(error) },
        'not forgotten that it was announced',
      )
    }
  }

  /** Commits and gives the stream to somebody else. Never rejects. */
  async release(run: StreamRun): Promise<void> {
    if (!run.beginEnding()) return
    await run.whenIdle()
    await this.#persist(run, 'released', async () => {
      await run.commit()
      run.isHandedBack = true
      await run.stream.release()
      this.#context.onEnd(run, 'released')
    })
  }

  /**
   * Looks once more after an idle stream was closed: a record that came between the look before and the closing lies in
   * a stream that nobody will look at, until it is assigned again. Repeats what Redis refuses until the worker closes.
   */
  async #assignAnew(run: StreamRun): Promise<void> {
    const { announce, logger, signal } = this.#context
    for (let failures = 0; ; failures++) {
      try {
        if (await this.#hasNewer(run)) await announce(run.stream)
        return
      } catch (error) {
        const facts = { dataStreamName: run.name, error: messageOf(error) }
        if (signal.aborted) {
          const problem = 'records may have come after the end of a stream: assign it to the LBS again'
          return logger.error(facts, problem)
        }
        logger.warn(facts, 'an idle stream was closed and cannot be looked at once more, trying again')
        await sleep(backoffMs(failures, RETRY_PAUSE_MS, GREATEST_PAUSE_MS), signal)
      }
    }
  }

  /** Goes on; or, if the worker was told to close in the meantime, gives the stream to somebody else. */
  async #callOff(run: StreamRun): Promise<void> {
    run.cancelEnding()
    if (run.stream.signal.aborted && run.stream.owned) await this.release(run)
  }

  /** Repeats what Redis refused until it succeeds, ownership is over or the worker has closed. */
  async #persist(run: StreamRun, how: StreamEnd, steps: () => Promise<void>): Promise<void> {
    while (run.state !== 'ended') {
      try {
        return await steps()
      } catch (error) {
        const { logger, onEnd, signal } = this.#context
        if (isLoss(error) || signal.aborted) return onEnd(run, 'lost')
        const code = error instanceof StreamClientError ? error.code : null
        logger.warn(
          { dataStreamName: run.name, how, code, error: messageOf(error) },
          'a stream cannot be left, trying again',
        )
        await sleep(RETRY_PAUSE_MS, signal)
      }
    }
  }

  async #deleteData(run: StreamRun): Promise<boolean> {
    const { logger, onDone, scripts } = this.#context
    if (onDone === 'keep') return false
    const answer = await scripts.deleteStream(run.fence, run.position)
    switch (answer) {
      case 'DELETED':
        return true
      case 'NEWER':
        logger.warn({ dataStreamName: run.name }, 'not deleted: records came after the last one')
        return false
      case 'NOT_OWNED':
      case 'SESSION_LOST':
        throw new StreamClientError('STREAM_NOT_OWNED', `${run.name} is not owned any more`)
      default:
        return answer satisfies never
    }
  }

  async #hasNewer(run: StreamRun): Promise<boolean> {
    const [look] = await this.#context.scripts.look([{ dataStreamName: run.name, position: run.position }], 1)
    const lastId = look?.lastId ?? null
    return lastId !== null && comparePositions(lastId, run.position) > 0
  }
}
