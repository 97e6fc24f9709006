/** Runs one scenario and sends what it says to the bench. An error that nobody catches ends the process, not the bench. */
import { BenchRun } from '../bench-run.js'
import { SCENARIOS } from '../scenarios.js'

process.once('SIGTERM', () => process.exit(1))

const scenario = SCENARIOS.find(({ name }) => name === process.argv[2])
if (scenario === undefined) throw new RangeError(`there is no scenario ${process.argv[2]}`)
const bench = new BenchRun(scenario, (line) => void process.send?.(line))
try {
  await scenario.run(bench)
  bench.end()
  process.disconnect()
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
  process.exitCode = 1
  process.disconnect()
}
