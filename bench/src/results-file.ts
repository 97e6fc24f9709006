/** The figures of a run as JSON, written anew with each of them, so that a run that dies leaves what it has measured. */
import { renameSync, writeFileSync } from 'node:fs'
import type { Figure } from './figure.js'
import type { Machine } from './machine.js'

export interface Results {
  readonly startedAt: string
  readonly machine: Machine
  readonly figures: readonly Figure[]
  readonly notes: readonly string[]
  /** False while the run goes on, and for ever if it did not come to its end. */
  readonly isComplete: boolean
}

export function writeResults(file: string, results: Results): void {
  const unfinished = `${file}.part`
  writeFileSync(unfinished, `${JSON.stringify(results, null, 1)}\n`)
  renameSync(unfinished, file)
}
