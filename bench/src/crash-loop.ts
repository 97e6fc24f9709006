/**
 * `npm run crash-loop -- MINUTES`: a pod restarts every 4 s beside five healthy ones, which are to keep their streams; then
 * a sixth joins and has to get its share. Exit code 1 if not.
 */
import { crashLoop } from './crashing-pod.js'
import { Progress } from './progress.js'
import { formatNumber } from './results-table.js'
import { CRASH_LOOP_LIMITS, EVEN_WITHIN_MS } from './sharing-goals.js'

const minutes = Number(process.argv[2] ?? 10)
if (minutes > 0) {
  process.exitCode = (await run(minutes * 60_000)) ? 0 : 1
} else {
  process.stderr.write('npm run crash-loop -- MINUTES\n')
  process.exitCode = 2
}

/** Resolves with whether all was well. */
async function run(durationMs: number): Promise<boolean> {
  const progress = new Progress()
  const found = await crashLoop(durationMs, EVEN_WITHIN_MS, (text) => progress.show(`crash loop: ${text}`))
  progress.clear()
  const share = Math.max(...found.sharesOfCrashing)
  process.stdout.write(
    `${found.crashes} crashes, ${found.moves} moves; the crashing pod had ${formatNumber(share * 100)} % of the ` +
      `streams at most; busiest by mean of the healthy ${formatNumber(found.spreadAfterJoin)}\n`,
  )
  const isWell = share <= CRASH_LOOP_LIMITS.share && found.spreadAfterJoin <= CRASH_LOOP_LIMITS.spread
  process.stdout.write(isWell ? 'As it has to be.\n' : 'NOT as it has to be.\n')
  return isWell
}
