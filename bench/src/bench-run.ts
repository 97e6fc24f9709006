/** What one run of the bench has measured so far, and what it says meanwhile. */
import type { Budget, Figure } from './figure.js'
import type { Progress } from './progress.js'
import { summarize } from './statistics.js'

/** A figure as a scenario knows it: the samples, still to be summarized. */
export interface Measured {
  readonly what: string
  readonly peer: string
  readonly unit: string
  readonly samples: readonly number[] | number
  readonly budget?: Budget
  readonly x?: number
}

export class BenchRun {
  readonly figures: Figure[] = []
  /** What could not be measured, and why. */
  readonly notes: string[] = []
  readonly #progress: Progress
  #scenario = ''

  constructor(progress: Progress) {
    this.#progress = progress
  }

  begin(scenario: string): void {
    this.#scenario = scenario
  }

  /** Says what is being done. */
  step(text: string): void {
    this.#progress.show(`${this.#scenario}: ${text}`)
  }

  record({ samples, ...facts }: Measured): void {
    const summary = summarize(typeof samples === 'number' ? [samples] : samples)
    this.figures.push({ scenario: this.#scenario, ...facts, ...summary })
  }

  note(text: string): void {
    this.notes.push(`${this.#scenario}: ${text}`)
  }
}
