/**
 * What is logged of an application's recorder and listeners. They may fail with every event, as long as a metrics server is
 * away for instance: one line at once, then at most one in ten seconds, which says how many failures had none.
 */
import type { SafeLogger } from './logger.js'
import { messageOf } from './redis/redis-errors.js'

const LEAST_PAUSE_MS = 10_000

export interface FailureLog {
  readonly listenerFailed: (error: unknown, event: string) => void
  readonly recorderFailed: (error: unknown) => void
}

/** `logger` is asked for when there is something to write. */
export function logFailures(logger: () => SafeLogger): FailureLog {
  const writeListener = seldom((facts) => logger().error(facts, 'a listener has failed'))
  const writeRecorder = seldom((facts) => logger().error(facts, 'the metrics recorder has failed'))
  return {
    listenerFailed: (error, event) => writeListener({ event, error: messageOf(error) }),
    recorderFailed: (error) => writeRecorder({ error: messageOf(error) }),
  }
}

function seldom(write: (facts: object) => void): (facts: object) => void {
  let notBeforeMs = Number.NEGATIVE_INFINITY
  let unwritten = 0
  return (facts) => {
    const nowMs = performance.now()
    if (nowMs < notBeforeMs) {
      unwritten++
      return
    }
    notBeforeMs = nowMs + LEAST_PAUSE_MS
    write(unwritten === 0 ? facts : { ...facts, unwritten })
    unwritten = 0
  }
}
