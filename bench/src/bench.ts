/**
 * `npm run bench`: all scenarios but the long ones, those that are named, or with `--long` all; `--out FILE` writes the figures as JSON, each as it comes.
 * The exit code is 1 if a budget is broken or something failed.
 */
import { parseArgs } from 'node:util'
import { type BenchLine, failedFigure } from './bench-run.js'
import { concludeFrom } from './conclusion.js'
import type { Figure } from './figure.js'
import { describeMachine } from './machine.js'
import { coreShare, FAIR_SHARE } from './machine-share.js'
import { OURS } from './peers.js'
import { Progress } from './progress.js'
import { writeResults } from './results-file.js'
import { formatLine, formatTable } from './results-table.js'
import type { Scenario } from './scenario.js'
import { runInProcess } from './scenario-process.js'
import { SCENARIOS } from './scenarios.js'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { out: { type: 'string' }, long: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
})

if (values.help) {
  process.stdout.write(`${usage()}\n`)
} else {
  const chosen = choose(positionals, values.long === true)
  if (chosen === null) {
    process.stderr.write(`There is no scenario ${positionals.join(' ')}.\n${usage()}\n`)
    process.exitCode = 2
  } else {
    await runAll(chosen, values.out)
  }
}

async function runAll(scenarios: readonly Scenario[], out: string | undefined): Promise<void> {
  const progress = new Progress()
  const startedAt = new Date().toISOString()
  const machine = await describeMachine()
  const figures: Figure[] = []
  const notes: string[] = []
  const write = (isComplete: boolean): void => {
    if (out !== undefined) writeResults(out, { startedAt, machine, figures, notes, isComplete })
  }
  const hear = (line: BenchLine): void => {
    switch (line.type) {
      case 'step':
        progress.show(line.text)
        return
      case 'figure':
        figures.push(line.figure)
        progress.say(formatLine(line.figure))
        break
      case 'note':
        notes.push(line.text)
        break
      default:
        line satisfies never
    }
    write(false)
  }
  for (const { limitMs, name } of scenarios) {
    const shareBefore = coreShare()
    const failure = await runInProcess(name, { limitMs, hear })
    if (failure !== null) {
      hear({ type: 'figure', figure: { scenario: name, ...failedFigure('the scenario', OURS, failure) } })
    }
    const share = Math.min(shareBefore, coreShare())
    if (share < FAIR_SHARE) {
      const percent = Math.round(share * 100)
      const text = `${name}: the machine was busy with other work: a process got ${percent} % of a core`
      hear({ type: 'note', text })
    }
  }
  write(true)
  progress.clear()
  const { isWell, lines } = concludeFrom(figures)
  process.stdout.write(`\n${formatTable(figures)}\n\n${machine.summary}\n`)
  for (const note of notes) process.stdout.write(`Note: ${note}\n`)
  process.stdout.write(`${lines.join('\n')}\n`)
  if (!isWell) process.exitCode = 1
}

function choose(names: readonly string[], withLong: boolean): readonly Scenario[] | null {
  if (names.length === 0) return SCENARIOS.filter(({ isLong }) => withLong || isLong !== true)
  const found = names.map((name) => SCENARIOS.find((scenario) => scenario.name === name))
  return found.some((scenario) => scenario === undefined) ? null : (found as Scenario[])
}

function usage(): string {
  const lines = SCENARIOS.map(
    ({ name, about, isLong }) =>
      `  ${name.padEnd(14)} ${about}${isLong ? ' (only if named, or with --long)' : ''}`,
  )
  return ['npm run bench -- [SCENARIO ...] [--long] [--out FILE]', ...lines].join('\n')
}
