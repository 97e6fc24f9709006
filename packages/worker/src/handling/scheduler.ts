/** Gives each stream with something to do its turn: first come, first served, so many streams at once. */
import { Fifo } from '@redis-stream-client/notifs/internal'
import type { StreamRun } from '../progress/stream-run.js'

export interface SchedulerContext {
  readonly concurrency: number
  /** Works on a stream for a while. Never rejects. */
  readonly turn: (run: StreamRun) => Promise<void>
  /** False while no stream may begin a record. */
  readonly mayStart: () => boolean
}

export class Scheduler {
  readonly #context: SchedulerContext
  readonly #queue = new Fifo<StreamRun>()
  #running = 0

  constructor(context: SchedulerContext) {
    this.#context = context
  }

  get running(): number {
    return this.#running
  }

  /** Streams that wait for their turn. */
  get waiting(): number {
    return this.#queue.length
  }

  /** Queues a stream if there is something to do in it. Safe at any time. */
  offer(run: StreamRun): void {
    if (run.isQueued || run.isBusy || !run.isRunnable) return
    run.isQueued = true
    this.#queue.push(run)
    this.pump()
  }

  /** Starts turns, as many as there is room for. */
  pump(): void {
    while (this.#running < this.#context.concurrency && this.waiting > 0 && this.#context.mayStart()) {
      const run = this.#queue.shift() as StreamRun
      run.isQueued = false
      if (run.isRunnable) void this.#take(run)
    }
  }

  async #take(run: StreamRun): Promise<void> {
    this.#running++
    run.isBusy = true
    await this.#context.turn(run)
    run.isBusy = false
    this.#running--
    run.settle()
    this.offer(run)
    this.pump()
  }
}
