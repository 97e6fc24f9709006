/** Measures how far the owned streams are behind, on demand and every now and then for the metrics. */
import { messageOf, type SafeLogger, sleep } from '@redis-stream-client/client/internal'
import type { WorkerScripts } from './redis/worker-scripts.js'
import type { StreamRun } from './stream-run.js'
import type { SafeWorkerRecorder } from './worker-metrics.js'
import { describeLag, type LagStatus } from './worker-status.js'

export interface LagMonitorContext {
  readonly scripts: WorkerScripts
  readonly runs: () => Iterable<StreamRun>
  readonly intervalMs: number
  readonly recorder: SafeWorkerRecorder
  readonly logger: SafeLogger
}

const STREAMS_PER_CALL = 25
const COUNTED_RECORDS = 1000
/** The sum over many streams need not be exact, and counting costs. */
const SAMPLED_RECORDS = 100
/** Labels of a metric are kept for ever by most systems: only the worst streams get one. */
const REPORTED_STREAMS = 20

export class LagMonitor {
  readonly #context: LagMonitorContext

  constructor(context: LagMonitorContext) {
    this.#context = context
  }

  /** Lag of each stream; those Redis does not answer for are missing. Never rejects. */
  async measure(
    runs: readonly StreamRun[],
    countedRecords: number = COUNTED_RECORDS,
  ): Promise<Map<StreamRun, LagStatus>> {
    const lags = new Map<StreamRun, LagStatus>()
    for (let start = 0; start < runs.length; start += STREAMS_PER_CALL) {
      const page = runs.slice(start, start + STREAMS_PER_CALL)
      const positions = page.map(({ name, position }) => ({ dataStreamName: name, position }))
      try {
        const answers = await this.#context.scripts.lag(positions, countedRecords)
        const nowMs = Date.now()
        for (const [index, run] of page.entries()) {
          const answer = answers[index]
          const { position } = positions[index] as { position: string }
          if (answer !== undefined) lags.set(run, describeLag(position, answer, nowMs))
        }
      } catch (error) {
        this.#context.logger.debug({ error: messageOf(error) }, 'lag cannot be measured')
        break
      }
    }
    return lags
  }

  /** Reports to the metrics until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(this.#context.intervalMs, signal)
      if (!signal.aborted) await this.#sample()
    }
  }

  async #sample(): Promise<void> {
    const { recorder, runs } = this.#context
    const lags = await this.measure([...runs()], SAMPLED_RECORDS)
    const sorted = [...lags].sort(([, a], [, b]) => b.lagMs - a.lagMs || b.records - a.records)
    for (const [run, { records, lagMs }] of sorted.slice(0, REPORTED_STREAMS)) {
      recorder.lag({ dataStreamName: run.name, records, lagMs })
    }
    recorder.totalLag({
      streams: lags.size,
      records: sorted.reduce((sum, [, { records }]) => sum + records, 0),
      greatestLagMs: sorted[0]?.[1].lagMs ?? 0,
    })
  }
}
