/**
 * `npm run faults`: runs the fleet under faults and says what did not hold.
 *
 *     npm run faults                            ten minutes, a seed drawn and printed
 *     npm run faults -- --seed 7 --minutes 2    the same faults again
 *     npm run faults -- --work records          the worker alone; jobs, shares: the client alone
 *     npm run faults -- --work shares --rest 10 ten minutes in the end in which no stream may move
 *     npm run faults -- --weakenings            every deliberate weakening has to be caught
 */
import { parseArgs } from 'node:util'
import { findRedis } from './find-redis.js'
import { type Report, type RunOptions, run } from './run.js'
import { describeViolation } from './violation.js'
import { catchWeakenings } from './weakenings.js'

const MINUTE_MS = 60_000
interface Part extends Pick<RunOptions, 'work' | 'withLosses' | 'withReplica'> {
  readonly title: string
  readonly work: 'jobs' | 'records' | 'shares'
  /** Of the time, by those of all parts that are run. */
  readonly share: number
}

const PARTS: readonly Part[] = [
  { title: 'The client, and a Redis that keeps what it has answered', work: 'jobs', share: 25 },
  { title: 'The client, and streams to share in a fleet that changes', work: 'shares', share: 20 },
  { title: 'The worker, and a Redis that keeps what it has answered', work: 'records', share: 25 },
  {
    title: 'The client, and a Redis that loses what it has answered',
    work: 'jobs',
    withLosses: true,
    share: 10,
  },
  {
    title: 'The worker, and a Redis that loses what it has answered',
    work: 'records',
    withLosses: true,
    share: 10,
  },
  { title: 'The client, and a replica that owners wait for', work: 'jobs', withReplica: true, share: 10 },
]

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    minutes: { type: 'string', default: '10' },
    work: { type: 'string' },
    rest: { type: 'string' },
    weakenings: { type: 'boolean', default: false },
  },
})
findRedis()
const isWell = values.weakenings ? await catchWeakenings(say) : await runFaults()
process.exitCode = isWell ? 0 : 1

async function runFaults(): Promise<boolean> {
  const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31))
  const durationMs = Number(values.minutes) * MINUTE_MS
  if (!Number.isSafeInteger(seed) || !(durationMs > 0))
    throw new RangeError('--seed and --minutes are numbers')
  const parts = PARTS.filter(({ work }) => values.work === undefined || work === values.work)
  if (parts.length === 0) throw new RangeError('--work is jobs, shares or records')
  const only = values.work === undefined ? '' : ` --work ${values.work}`
  say(`seed ${seed}, again with: npm run faults -- --seed ${seed} --minutes ${values.minutes}${only}`)
  const shares = parts.reduce((sum, { share }) => sum + share, 0)
  let isWell = true
  for (const [index, { share, title, ...options }] of parts.entries()) {
    const partMs = (durationMs * share) / shares
    const report = await run({
      ...options,
      seed: seed + index,
      durationMs: partMs,
      ...(values.rest === undefined ? {} : { restMs: Number(values.rest) * MINUTE_MS }),
      log: (line) => say(`  ${line}`),
    })
    show(title, report)
    isWell &&= report.violations.length === 0
  }
  return isWell
}

function show(title: string, report: Report): void {
  const { answers, counts, faults, losses, remarks, violations, withReplica } = report
  say(`\n${title}`)
  say(`  ${list(counts)}`)
  say(`  faults: ${list(faults)}`)
  say(`  answered by Redis: ${list(answers)}`)
  if (losses > 0 && withReplica) {
    say(
      `  Failovers: ${losses}, each to a replica that lacked what was written last. Not asked: that a stream has one owner`,
    )
    say('  for one TTL after it. Asked: all the rest; above all that nothing is gone that was acknowledged.')
  } else if (losses > 0) {
    say(
      `  Redis lost acknowledged writes ${losses} times. Not asked then: that what was added is served, that checkpoints`,
    )
    say(
      '  are the newest, and for one TTL and a restart that a stream has one owner. Asked: all the rest; above all that',
    )
    say('  no owner is given a fence below one given before, and no commit is accepted under an older one.')
  }
  for (const remark of remarks) say(`  note: ${remark}`)
  for (const each of violations) say(`  VIOLATION: ${describeViolation(each)}`)
  say(violations.length === 0 ? '  all properties hold' : `  ${violations.length} violations`)
}

function list(numbers: Readonly<Record<string, number>>): string {
  return Object.entries(numbers)
    .map(([name, number]) => `${name} ${number}`)
    .join(', ')
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
