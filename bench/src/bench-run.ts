/** With this a scenario reports what it does and what it has measured. Each line is reported at once. */
import type { Budget, Figure, Limit } from './figure.js'
import { OURS, type Peer } from './peers.js'
import type { Scenario } from './scenario.js'
import { summarize } from './statistics.js'

/** A figure as a scenario knows it: the samples, still to be summarized. */
export interface Measured {
  readonly what: string
  readonly peer: Peer
  readonly unit: string
  readonly better: Figure['better']
  readonly samples: readonly number[] | number
  readonly x?: number
}

export type BenchLine =
  | { readonly type: 'step'; readonly text: string }
  | { readonly type: 'figure'; readonly figure: Figure }
  /** What could not be measured though nothing failed, and why; or what makes figures doubtful. */
  | { readonly type: 'note'; readonly text: string }

/** The rest would make a table unreadable. */
const MAX_FAILURE_CHARS = 200

export class BenchRun {
  readonly #scenario: Pick<Scenario, 'name' | 'budgets'>
  readonly #tell: (line: BenchLine) => void
  readonly #unmeasured: Set<Budget>

  constructor(scenario: Pick<Scenario, 'name' | 'budgets'>, tell: (line: BenchLine) => void) {
    this.#scenario = scenario
    this.#tell = tell
    this.#unmeasured = new Set(scenario.budgets)
  }

  /** Says what is being done. */
  step(text: string): void {
    this.#tell({ type: 'step', text: `${this.#scenario.name}: ${text}` })
  }

  /** Records a figure, and with it the budget of the scenario that is meant for it. */
  record({ peer, samples, ...facts }: Measured): void {
    const budget = peer === OURS ? this.#budgetOf(facts.what) : undefined
    this.#add({
      ...facts,
      ...named(peer),
      ...summarize(typeof samples === 'number' ? [samples] : samples),
      ...(budget === undefined ? {} : { budget: limitOf(budget) }),
    })
  }

  /** Measures something that others do not depend on: if it fails, a row says so, and the scenario goes on. */
  async attempt(what: string, peer: Peer, measure: () => Promise<void>): Promise<void> {
    this.step(`${peer.name}: ${what}`)
    try {
      await measure()
    } catch (error) {
      this.fail(what, peer, error)
    }
  }

  /** Records that something could not be measured because it failed. */
  fail(what: string, peer: Peer, error: unknown): void {
    this.#add(failedFigure(what, peer, error))
  }

  note(text: string): void {
    this.#tell({ type: 'note', text: `${this.#scenario.name}: ${text}` })
  }

  /** Says at the end which budgets nothing was measured for. */
  end(): void {
    for (const { of } of this.#unmeasured) this.fail(of, OURS, 'nothing was measured that has this budget')
  }

  #budgetOf(what: string): Budget | undefined {
    const budget = this.#scenario.budgets.find(({ of }) => what.startsWith(of))
    if (budget !== undefined) this.#unmeasured.delete(budget)
    return budget
  }

  #add(figure: Omit<Figure, 'scenario'>): void {
    this.#tell({ type: 'figure', figure: { scenario: this.#scenario.name, ...figure } })
  }
}

/** The row of something that failed. */
export function failedFigure(what: string, peer: Peer, error: unknown): Omit<Figure, 'scenario'> {
  const [first = ''] = (error instanceof Error ? error.message : String(error)).split('\n')
  const failure = first.length > MAX_FAILURE_CHARS ? `${first.slice(0, MAX_FAILURE_CHARS)}...` : first
  return { what, ...named(peer), unit: '', better: 'lower', ...summarize([]), failure }
}

function named({ differs, name }: Peer): Pick<Figure, 'peer' | 'differs'> {
  return { peer: name, differs }
}

function limitOf({ bound, limit, statistic }: Budget): Limit {
  return { statistic, bound, limit }
}
