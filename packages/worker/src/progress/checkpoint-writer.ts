/**
 * Writes the checkpoints of one owned stream, one after the other, each until it is answered or ownership is over.
 * What is written is asked for when its turn has come, so that a later write never carries an older position.
 */
import type { OwnedStream } from '@redis-stream-client/client'
import { StreamClientError } from '@redis-stream-client/client'
import { backoffMs, type Fence, isTransient, redisError, sleep } from '@redis-stream-client/client/internal'
import { WorkerError } from '../contract/worker-error.js'
import type { ScriptCommand, WorkerScripts } from '../redis/worker-scripts.js'
import { encodeCheckpoint, type WorkerCheckpoint } from './worker-checkpoint.js'

/** A checkpoint about to be written. */
export interface Draft {
  readonly checkpoint: WorkerCheckpoint
  /** Called when Redis has stored it, before the next write is drafted. */
  readonly stored: () => void
}

const FIRST_PAUSE_MS = 10
const GREATEST_PAUSE_MS = 500

export class CheckpointWriter {
  readonly #stream: OwnedStream
  readonly #fence: Fence
  readonly #scripts: Pick<WorkerScripts, 'transact'>
  #tail: Promise<unknown> = Promise.resolve()

  constructor(stream: OwnedStream, fence: Fence, scripts: Pick<WorkerScripts, 'transact'>) {
    this.#stream = stream
    this.#fence = fence
    this.#scripts = scripts
  }

  /**
   * Commits what `draft` says when the writes before it are done; null: there is nothing to write any more.
   * Rejects with STREAM_NOT_OWNED, SESSION_LOST, or REDIS_ERROR where Redis refuses.
   */
  save(draft: () => Draft | null): Promise<void> {
    return this.#inOrder(async () => {
      const drafted = draft()
      if (drafted === null) return
      await this.#stream.commit(encodeCheckpoint(drafted.checkpoint))
      drafted.stored()
    })
  }

  /**
   * Executes commands and commits the checkpoint in one atomic, fenced step; both happen once, whatever gets lost.
   * Resolves with the replies, or null if the answer was lost and a second try found it done.
   * Rejects with STREAM_NOT_OWNED, SESSION_LOST, REDIS_ERROR, or TRANSACTION_FAILED: Redis refused a command; the
   * fact `executed` is the number of commands before it, whose effects remain.
   */
  transact(commands: readonly ScriptCommand[], draft: () => Draft): Promise<readonly unknown[] | null> {
    return this.#inOrder(async () => {
      const { checkpoint, stored } = draft()
      const replies = await this.#transact(commands, encodeCheckpoint(checkpoint))
      stored()
      return replies
    })
  }

  async #transact(
    commands: readonly ScriptCommand[],
    checkpoint: string,
  ): Promise<readonly unknown[] | null> {
    const number = this.#fence.nextCommit()
    for (let attempt = 0; ; attempt++) {
      if (!this.#fence.isHeld()) throw this.#refused('SESSION_LOST')
      try {
        const answer = await this.#scripts.transact(this.#fence, number, checkpoint, commands)
        switch (answer.status) {
          case 'OK':
            return answer.replies
          case 'DONE':
            return null
          case 'STALE':
          case 'NOT_OWNED':
            throw this.#refused('STREAM_NOT_OWNED')
          case 'SESSION_LOST':
            throw this.#refused('SESSION_LOST')
          case 'REFUSED':
            throw transactionFailed(answer.index, answer.error)
          default:
            answer satisfies never
        }
      } catch (error) {
        if (error instanceof StreamClientError || error instanceof WorkerError) throw error
        if (!isTransient(error)) throw redisError('transaction', error)
        await sleep(backoffMs(attempt, FIRST_PAUSE_MS, GREATEST_PAUSE_MS), this.#fence.sessionSignal)
      }
    }
  }

  #inOrder<T>(write: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(write)
    this.#tail = result.catch(() => undefined)
    return result
  }

  #refused(code: 'STREAM_NOT_OWNED' | 'SESSION_LOST'): StreamClientError {
    const { dataStreamName, idInLbs, fencingToken } = this.#fence
    return new StreamClientError(code, `transaction: ${dataStreamName} is not owned any more`, {
      dataStreamName,
      idInLbs,
      fencingToken,
    })
  }
}

function transactionFailed(index: number, problem: string): WorkerError {
  return new WorkerError('TRANSACTION_FAILED', `Redis refused command ${index}: ${problem}`, {
    facts: { command: index, executed: index - 1 },
  })
}
