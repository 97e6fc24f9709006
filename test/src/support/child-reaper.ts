/** Kills child processes that are left when their parent exits, so that a failed test leaves none behind. */
import type { ChildProcess } from 'node:child_process'

const alive = new Set<ChildProcess>()

/** Watches a child until it exits. SIGKILL also ends a child that was stopped. */
export function reapAtExit(child: ChildProcess): void {
  if (alive.size === 0) process.once('exit', killAll)
  alive.add(child)
  child.once('exit', () => {
    alive.delete(child)
    if (alive.size === 0) process.off('exit', killAll)
  })
}

function killAll(): void {
  for (const child of alive) child.kill('SIGKILL')
}
