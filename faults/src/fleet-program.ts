/**
 * What every program of a fleet does from its start on: it reads its options, obeys commands on stdin, writes its
 * history, and records rejections and errors that nothing handles.
 */
import { appendFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { Redis } from 'ioredis'
import { type HistoryEvent, monotonicMs } from './history.js'
import type { WorkerCommand, WorkerOptions } from './worker-process.js'

const MEMORY_MS = 1000

/** An event without its time. */
type Untimed<E> = E extends HistoryEvent ? Omit<E, 'at'> : never

export const options: WorkerOptions = JSON.parse(process.argv[2] ?? '{}') as WorkerOptions
let wallClockStepMs = 0
let unreadUntilMs = 0
let ignoresUntilMs = 0

const wallClockMs = Date.now
Date.now = () => wallClockMs() + wallClockStepMs
process.on('unhandledRejection', (error) => note({ type: 'unhandled', error: String(error) }))
process.on('uncaughtException', (error) => {
  note({ type: 'unhandled', error: String(error.stack) })
  process.exit(70)
})
setInterval(() => note({ type: 'memory', rssBytes: process.memoryUsage.rss() }), MEMORY_MS).unref()
createInterface({ input: process.stdin }).on('line', (text) => obey(JSON.parse(text) as WorkerCommand))

/** How long notifications are to be left unread from now on. */
export function unreadMs(): number {
  return unreadUntilMs - monotonicMs()
}

/** Whether the application goes on with its streams, whoever asks it to stop. */
export function ignoresSignals(): boolean {
  return monotonicMs() < ignoresUntilMs
}

export function note(event: Untimed<HistoryEvent>): void {
  write({ ...event, at: monotonicMs() } as HistoryEvent)
}

/** At once, so that nothing is missing after a kill. */
export function write(event: HistoryEvent): void {
  appendFileSync(options.historyFile, `${JSON.stringify(event)}\n`)
}

export function say(line: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

/** Sockets, timers and what else keeps Node going, counted by kind. */
export function resources(): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const kind of process.getActiveResourcesInfo()) counts[kind] = (counts[kind] ?? 0) + 1
  return counts
}

export function codeOf(error: unknown): string {
  if (error instanceof Error && 'code' in error) return String(error.code)
  return String(error)
}

export function quiet(connection: Redis): Redis {
  return connection.on('error', () => undefined)
}

/** The connection to where the work is written down, which no fault reaches. */
export function connectToLedger(): Redis {
  return quiet(new Redis(options.ledgerUrl))
}

function obey(command: WorkerCommand): void {
  switch (command.type) {
    case 'stall': {
      const untilMs = monotonicMs() + command.ms
      while (monotonicMs() < untilMs);
      break
    }
    case 'clock':
      wallClockStepMs += command.stepMs
      break
    case 'unread':
      unreadUntilMs = monotonicMs() + command.ms
      break
    case 'ignoreSignals':
      ignoresUntilMs = monotonicMs() + command.ms
      break
    case 'rest':
      globalThis.gc?.()
      say({ type: 'resting', heapBytes: process.memoryUsage().heapUsed, resources: resources() })
      break
    default:
      command satisfies never
  }
}
