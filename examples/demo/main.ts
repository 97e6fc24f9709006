/**
 * `npm run demo`: three consumers work out the delays at 201 airports while one of them is killed, another stopped,
 * and a fourth joins; the result is compared with the file. Exit code 0 only if all airports are equal and all went as it should.
 */
import { Redis } from 'ioredis'
import { compare } from './comparison.js'
import { delaysByAirport } from './delays.js'
import { readFlights } from './flights.js'
import { LiveView } from './live-view.js'
import { paintFor } from './paint.js'
import { PlainView } from './plain-view.js'
import { Run } from './run.js'
import { formatSummary } from './summary.js'
import { findProblems } from './verdict.js'
import { formatCount } from './wording.js'

const EXIT_CODE_OF_INTERRUPTED = 130

const { stdout } = process
const paint = paintFor(stdout)
const interrupt = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => interrupt.abort(signal))
}

const url = process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379'
const redis = new Redis(url, { lazyConnect: true })
redis.on('error', () => undefined) // commands tell
try {
  await redis.connect().catch((cause: unknown) => {
    throw new Error('no Redis server can be reached at REDIS_URL', { cause })
  })
  process.exitCode = await demonstrate(redis)
} catch (error) {
  stdout.write(`\n  ${paint.red(`The demo has failed: ${(error as Error).message}`)}\n`)
  process.exitCode = 1
} finally {
  redis.disconnect()
}

async function demonstrate(redis: Redis): Promise<number> {
  const flights = readFlights()
  const expected = delaysByAirport(flights)
  const size = { flights: flights.length, airports: expected.size }
  const facts = `${formatCount(size.flights)} flights, ${size.airports} airports with a data stream each, 3 consumers, later a fourth`
  stdout.write(`\n  ${paint.bold(facts)}\n`)

  const isPicture = stdout.isTTY && process.env['TERM'] !== 'dumb'
  const view = isPicture ? new LiveView(size, stdout) : new PlainView(size, (text) => stdout.write(text))
  process.once('exit', () => view.end())
  const outcome = await new Run(redis, url, size.flights, view).play(interrupt.signal)
  view.end()
  if (interrupt.signal.aborted) {
    stdout.write(`\n  Interrupted (${String(interrupt.signal.reason)}); all processes have ended.\n`)
    return EXIT_CODE_OF_INTERRUPTED
  }

  const comparison = compare(expected, outcome.results)
  const problems = findProblems(outcome, comparison)
  stdout.write(`\n${formatSummary(outcome, comparison, expected, paint)}\n`)
  if (problems.length === 0) {
    stdout.write(`  ${paint.green(`All ${size.airports} airports are as the file says.`)}\n\n`)
    return 0
  }
  for (const problem of problems) stdout.write(`  ${paint.red(problem)}\n`)
  for (const { name, output } of outcome.endings) if (output !== '') stdout.write(`\n${name}:\n${output}\n`)
  return 1
}
