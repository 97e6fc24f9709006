/** What the demo shows of itself while it runs. */
import type { Scoreboard } from './scoreboard.js'

export interface View {
  /** Called ten times a second. */
  show(board: Scoreboard): void
  /** Something has happened that is worth a line. */
  tell(event: string): void
  /** Leaves the output as a program that comes after expects it. Twice is safe. */
  end(): void
}

/** What all of it is about, for headings and bars. */
export interface Size {
  readonly flights: number
  readonly airports: number
}
