/**
 * `npm run bench`: all scenarios, or the one that is named; `--out FILE` writes the figures as JSON.
 * The exit code is 1 if a budget is broken.
 */
import { writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { BenchRun } from './bench-run.js'
import { verdictOf } from './figure.js'
import { describeMachine } from './machine.js'
import { coreShare, FAIR_SHARE } from './machine-share.js'
import { Progress } from './progress.js'
import { formatTable } from './results-table.js'
import type { Scenario } from './scenario.js'
import { SCENARIOS } from './scenarios.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { out: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
})

if (values.help) {
  process.stdout.write(`${usage()}\n`)
} else {
  const chosen = choose(positionals)
  if (chosen === null) {
    process.stderr.write(`There is no scenario ${positionals.join(' ')}.\n${usage()}\n`)
    process.exitCode = 2
  } else {
    await runAll(chosen)
  }
}

async function runAll(scenarios: readonly Scenario[]): Promise<void> {
  const progress = new Progress()
  const bench = new BenchRun(progress)
  const startedAt = new Date().toISOString()
  for (const scenario of scenarios) {
    bench.begin(scenario.name)
    const shares = [coreShare()]
    try {
      await scenario.run(bench)
    } catch (error) {
      // One that fails leaves the figures of the others.
      bench.note(`failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
      process.exitCode = 1
    }
    shares.push(coreShare())
    const share = Math.min(...shares)
    if (share < FAIR_SHARE) {
      bench.note(`the machine was busy with other work: a process got ${Math.round(share * 100)} % of a core`)
    }
  }
  progress.clear()
  const machine = await describeMachine()
  process.stdout.write(`\n${formatTable(bench.figures)}\n\n${machine.summary}\n`)
  for (const note of bench.notes) process.stdout.write(`Note: ${note}\n`)
  const broken = bench.figures.filter((figure) => verdictOf(figure) === 'broken')
  process.stdout.write(
    broken.length === 0 ? 'Every budget is kept.\n' : `${broken.length} budgets are broken.\n`,
  )
  if (broken.length > 0) process.exitCode = 1
  if (values.out !== undefined) {
    const results = { startedAt, machine, figures: bench.figures, notes: bench.notes }
    await writeFile(values.out, `${JSON.stringify(results, null, 1)}\n`)
  }
}

function choose(names: readonly string[]): readonly Scenario[] | null {
  if (names.length === 0) return SCENARIOS
  const found = names.map((name) => SCENARIOS.find((scenario) => scenario.name === name))
  return found.some((scenario) => scenario === undefined) ? null : (found as Scenario[])
}

function usage(): string {
  const lines = SCENARIOS.map(({ name, about }) => `  ${name.padEnd(14)} ${about}`)
  return ['npm run bench -- [SCENARIO ...] [--out FILE]', ...lines].join('\n')
}
