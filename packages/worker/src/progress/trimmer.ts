/** Removes what is committed from data streams: one call at a time for each, however often something is committed. */
import { messageOf, type SafeLogger } from '@redis-stream-client/client/internal'
import type { WorkerScripts } from '../redis/worker-scripts.js'

/** A data stream and how far it is committed. */
export interface Trimmable {
  readonly name: string
  readonly committed: string
}

export class Trimmer {
  readonly #scripts: WorkerScripts
  readonly #logger: SafeLogger
  readonly #underWay = new Set<Trimmable>()

  constructor(scripts: WorkerScripts, logger: SafeLogger) {
    this.#scripts = scripts
    this.#logger = logger
  }

  /** Resolves when all that is committed is gone, or Redis has refused: the next commit tries again. Never rejects. */
  async trim(stream: Trimmable): Promise<void> {
    if (this.#underWay.has(stream)) return
    this.#underWay.add(stream)
    try {
      for (let trimmed: string | null = null; trimmed !== stream.committed; ) {
        trimmed = stream.committed
        await this.#scripts.trim(stream.name, trimmed)
      }
    } catch (error) {
      this.#logger.debug({ dataStreamName: stream.name, error: messageOf(error) }, 'not trimmed')
    }
    this.#underWay.delete(stream)
  }
}
