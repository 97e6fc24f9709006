/** Runs a scenario in a process of its own, so that one that dies or hangs does not affect the others. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { reapAtExit } from '@redis-stream-client/test/support/child-reaper'
import type { BenchLine } from './bench-run.js'

const PROGRAM = fileURLToPath(new URL('./programs/scenario-program.js', import.meta.url))
const MAX_STDERR_CHARS = 4000
/** How long a scenario that was told to end may take to end its servers and hosts. */
const END_MS = 10_000

export interface ScenarioProcessOptions {
  readonly limitMs: number
  readonly hear: (line: BenchLine) => void
  readonly program?: string
}

/** Resolves when the scenario is over: with null, or with why it has failed. */
export async function runInProcess(
  name: string,
  { hear, limitMs, program = PROGRAM }: ScenarioProcessOptions,
): Promise<string | null> {
  // Advanced, because JSON has no NaN.
  const child = fork(program, [name], {
    env: { ...process.env, LOG_LEVEL: 'silent' },
    stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    serialization: 'advanced',
  })
  reapAtExit(child)
  let stderr = ''
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr = (stderr + chunk.toString()).slice(-MAX_STDERR_CHARS)
  })
  child.on('message', (line) => hear(line as BenchLine))
  let isLate = false
  let killer: NodeJS.Timeout | undefined
  const limit = setTimeout(() => {
    isLate = true
    child.kill('SIGTERM')
    killer = setTimeout(() => child.kill('SIGKILL'), END_MS)
  }, limitMs)
  // The last lines may come when the process has ended already.
  const [end] = await Promise.all([once(child, 'close'), once(child, 'disconnect')])
  const [code, signal] = end as [number | null, NodeJS.Signals | null]
  clearTimeout(limit)
  clearTimeout(killer)
  if (isLate) return `it was not over after ${limitMs} ms`
  if (code === 0) return null
  return lastError(stderr) ?? `its process ended with ${signal ?? code}`
}

/** The line that names the error in what Node prints of one that nobody has caught. */
function lastError(stderr: string): string | undefined {
  return stderr
    .split('\n')
    .findLast((line) => /^\s*(\w*Error|\S*\[\w+\])\b.*:/.test(line))
    ?.trim()
}
