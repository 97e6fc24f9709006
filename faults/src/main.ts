/**
 * `npm run faults`: runs the fleet under faults and says what did not hold.
 *
 *     npm run faults                            ten minutes, a seed drawn and printed
 *     npm run faults -- --seed 7 --minutes 2    the same faults again
 *     npm run faults -- --weakenings            every deliberate weakening has to be caught
 */
import { parseArgs } from 'node:util'
import { findRedis } from './find-redis.js'
import { type Report, run } from './run.js'
import { catchWeakenings } from './weakenings.js'

const MINUTE_MS = 60_000
/** Part of the time is with a Redis that loses what it has answered, and part with a replica that does not. */
const LOSSES_SHARE = 0.2
const REPLICA_SHARE = 0.15

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    minutes: { type: 'string', default: '10' },
    weakenings: { type: 'boolean', default: false },
  },
})
await findRedis()
const isWell = values.weakenings ? await catchWeakenings(say) : await runFaults()
process.exitCode = isWell ? 0 : 1

async function runFaults(): Promise<boolean> {
  const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31))
  const durationMs = Number(values.minutes) * MINUTE_MS
  if (!Number.isSafeInteger(seed) || !(durationMs > 0))
    throw new RangeError('--seed and --minutes are numbers')
  say(`seed ${seed}, again with: npm run faults -- --seed ${seed} --minutes ${values.minutes}`)
  const log = (line: string): void => say(`  ${line}`)
  const kept = await run({ seed, durationMs: durationMs * (1 - LOSSES_SHARE - REPLICA_SHARE), log })
  show('Redis keeps what it has answered', kept)
  const lossy = await run({ seed: seed + 1, durationMs: durationMs * LOSSES_SHARE, withLosses: true, log })
  show('Redis loses what it has answered', lossy)
  const waiting = await run({
    seed: seed + 2,
    durationMs: durationMs * REPLICA_SHARE,
    withReplica: true,
    log,
  })
  show('Redis fails over to a replica that owners wait for', waiting)
  return [kept, lossy, waiting].every(({ violations }) => violations.length === 0)
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
  for (const violation of violations) say(`  VIOLATION: ${violation}`)
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
