/**
 * Looks at the owned streams: before their first record is read, on demand and every now and then for the metrics.
 * Measures how far they are behind, and has it checked whether they are still what was read.
 */
import { MicroBatch, messageOf, type SafeLogger, sleep } from '@redis-stream-client/client/internal'
import type { SafeWorkerRecorder } from '../contract/worker-metrics.js'
import type { StreamRun } from '../progress/stream-run.js'
import type { WorkerScripts } from '../redis/worker-scripts.js'
import type { LostRecords } from './lost-records.js'
import { describeLag, type LagStatus } from './worker-status.js'

export interface LagMonitorContext {
  readonly scripts: WorkerScripts
  readonly lostRecords: LostRecords
  readonly runs: () => Iterable<StreamRun>
  readonly intervalMs: number
  readonly recorder: SafeWorkerRecorder
  readonly logger: SafeLogger
}

const STREAMS_PER_CALL = 25
/** How many streams are looked at in each interval, so that what is lost is told soon. */
const STREAMS_PER_LOOK = 100
const LOOK_INTERVAL_MS = 1000
/** After so long the rest waits for the next interval. */
const GREATEST_LOOK_MS = 100
/** Looks take at most about a tenth of the time. */
const REST_PER_LOOK = 10
/** More than these are estimated. */
const COUNTED_RECORDS = 100
/** Labels of a metric are kept for ever by most systems: only the worst streams get one. */
const REPORTED_STREAMS = 20

export class LagMonitor {
  readonly #context: LagMonitorContext
  readonly #firstLooks = new MicroBatch<StreamRun, undefined>(STREAMS_PER_CALL, async (runs) => {
    await this.measure(runs)
    return runs.map(() => undefined)
  })

  constructor(context: LagMonitorContext) {
    this.#context = context
  }

  /** Looks at a stream before its first record is read. Resolves without an answer too; never rejects. */
  lookFirst(run: StreamRun): Promise<undefined> {
    return this.#firstLooks.add(run)
  }

  /** Lag of each stream; those Redis does not answer for are missing. Never rejects. */
  async measure(runs: readonly StreamRun[]): Promise<Map<StreamRun, LagStatus>> {
    const lags = new Map<StreamRun, LagStatus>()
    const { logger, lostRecords, scripts } = this.#context
    for (let start = 0; start < runs.length; ) {
      const marks = runs.slice(start, start + STREAMS_PER_CALL).map((run) => lostRecords.mark(run))
      const positions = marks.map(({ readPosition, run }) => ({
        dataStreamName: run.name,
        position: readPosition,
      }))
      try {
        const looks = await scripts.look(positions, COUNTED_RECORDS)
        for (const [index, look] of looks.entries()) {
          const mark = marks[index] as (typeof marks)[number]
          mark.run.noteEnd(look?.lastId ?? null)
          lags.set(mark.run, describeLag(mark, look, Date.now()))
          lostRecords.check(mark, look)
        }
        start += looks.length // large records: the others are for the next call
      } catch (error) {
        logger.debug({ error: messageOf(error) }, 'lag cannot be measured')
        break
      }
    }
    return lags
  }

  /** Looks at the streams, some at a time, and reports to the metrics until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#lookAround(signal), this.#report(signal)])
  }

  /**
   * With many streams a round takes longer, so that Redis is not kept busy by looks. So it does with large records: a look
   * makes Redis hand some of them to a script, which takes milliseconds for each mebibyte.
   */
  async #lookAround(signal: AbortSignal): Promise<void> {
    let round: StreamRun[] = []
    let tookMs = 0
    while (!signal.aborted) {
      await sleep(Math.max(LOOK_INTERVAL_MS, REST_PER_LOOK * tookMs), signal)
      if (round.length === 0) round = [...this.#context.runs()]
      const startedAtMs = performance.now()
      tookMs = 0
      for (
        let looked = 0;
        looked < STREAMS_PER_LOOK && tookMs < GREATEST_LOOK_MS;
        looked += STREAMS_PER_CALL
      ) {
        if (!signal.aborted) await this.measure(round.splice(0, STREAMS_PER_CALL))
        tookMs = performance.now() - startedAtMs
      }
    }
  }

  async #report(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(this.#context.intervalMs, signal)
      if (!signal.aborted) await this.#sample()
    }
  }

  async #sample(): Promise<void> {
    const { recorder, runs } = this.#context
    const lags = await this.measure([...runs()])
    const sorted = [...lags]
      .filter(([{ paused }]) => paused === null)
      .sort(([, a], [, b]) => b.lagMs - a.lagMs || b.records - a.records)
    for (const [run, { records, lagMs }] of sorted.slice(0, REPORTED_STREAMS)) {
      recorder.lag({ dataStreamName: run.name, records, lagMs })
    }
    recorder.totalLag({
      streams: lags.size,
      records: [...lags.values()].reduce((sum, { records }) => sum + records, 0),
      greatestLagMs: sorted[0]?.[1].lagMs ?? 0,
    })
  }
}
