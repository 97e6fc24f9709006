/**
 * The decisions of the scripts, in any order of commands and without any clients: sessions come and go, take, finish,
 * release and look as no sane client would. Many thousands of sequences; one that fails names its seed.
 */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { resolveServiceKeys } from '../../src/service-keys.js'
import { Ledger } from './ledger.js'
import type { ScriptWeakness } from './model-scripts.js'
import { modelSide } from './model-side.js'
import { PAST_SCRIPT_SEEDS } from './past-seeds.js'
import { Random } from './random.js'
import { ServiceCommands } from './service-commands.js'

const COMMANDS = 60
const SEQUENCES = 1_500
const WEAK_SEQUENCES = 1_000
const FIRST_MS = 1_000_000_000_000

// A machine may have other things to do.
vi.setConfig({ testTimeout: 120_000 })

// Errors are ordinary here, and stacks take time.
const { stackTraceLimit } = Error
beforeAll(() => {
  Error.stackTraceLimit = 0
})
afterAll(() => {
  Error.stackTraceLimit = stackTraceLimit
})

const keys = resolveServiceKeys('orders', { onCluster: false })

/** Plays one sequence; answers what went wrong first, or null. */
async function play(seed: number, weakness: ScriptWeakness | null = null): Promise<string | null> {
  let nowMs = FIRST_MS
  const ledger: Ledger = new Ledger(
    keys,
    () => model.server.data,
    (stream) => commands.believers(stream),
    () => nowMs,
    { hasCheckpoints: false },
  )
  const model = modelSide(keys, {
    wallMs: () => nowMs,
    watch: ledger,
    weakness,
    afterWrite: () => ledger.check(),
  })
  const commands = new ServiceCommands(new Random(seed), [model.side], ledger)
  const history: string[] = []
  for (let count = 0; count < COMMANDS && ledger.violations.length === 0; count++) {
    nowMs += 1
    history.push((await commands.next()).text)
  }
  ledger.checkNothingLost()
  const [violation] = ledger.violations
  return violation === undefined ? null : `seed ${seed}: ${violation}: ${history.join('; ')}`
}

async function firstViolation(seeds: Iterable<number>, weakness?: ScriptWeakness): Promise<string | null> {
  for (const seed of seeds) {
    const violation = await play(seed, weakness)
    if (violation !== null) return violation
  }
  return null
}

function* seedsFrom(first: number, count: number): Iterable<number> {
  for (let seed = first; seed < first + count; seed++) yield seed
}

describe('the scripts', () => {
  it('keep to one owner, growing fences, and lose nothing, whatever the order of commands', async () => {
    const { SIMULATION_SECONDS: seconds, SIMULATION_SEED: seed } = process.env
    expect(await firstViolation(PAST_SCRIPT_SEEDS)).toBeNull()
    if (seconds === undefined) {
      expect(await firstViolation(seed === undefined ? seedsFrom(1, SEQUENCES) : [Number(seed)])).toBeNull()
      return
    }
    const untilMs = performance.now() + Number(seconds) * 1000
    const first = Number(seed ?? Math.floor(Math.random() * 2 ** 31))
    let next = first
    for (; performance.now() < untilMs; next++) expect(await play(next)).toBeNull()
    console.log(
      `sequences ${first} to ${next - 1}: ${((next - first) / Number(seconds)).toFixed(0)} a second`,
    )
  }, 86_400_000)

  const weaknesses: Record<ScriptWeakness, RegExp> = {
    'no-owner-check': /owned it/,
    'no-fence-check': /was accepted under|was finished|owned it/,
    'no-backlog': /is lost/,
    'no-reservation': /has a backlog and no record/,
    'deal-to-the-dead': /whose session is over/,
    'deal-from-the-living': /who is alive/,
    'release-before-the-check': /who is alive/,
  }
  it.each(Object.entries(weaknesses))(
    'would not with %s: the simulation notices',
    async (weakness, problem) => {
      const violation = await firstViolation(seedsFrom(1, WEAK_SEQUENCES), weakness as ScriptWeakness)
      expect(violation).toMatch(problem)
    },
  )
})
