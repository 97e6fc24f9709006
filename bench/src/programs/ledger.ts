/** What happened to one member, counted and timed, and told to the bench now and then. */
import { sharedNowMs } from '../clock.js'
import { type Counts, NO_COUNTS, type Times } from '../host-protocol.js'
import { say } from './say.js'

const TELL_AFTER_MS = 10

export class Ledger {
  readonly #member: string
  readonly #keepsTimes: boolean
  readonly #takenAtMs: number[] = []
  readonly #expiredAtMs: number[] = []
  readonly #latencyMs: number[] = []
  #counts: { -readonly [K in keyof Counts]: Counts[K] } = { ...NO_COUNTS }
  #isTelling = false

  constructor(member: string, keepsTimes: boolean) {
    this.#member = member
    this.#keepsTimes = keepsTimes
  }

  /** `sentAtMs`: when the entry was added, where its producer has said so. */
  taken(isRecovered: boolean, sentAtMs?: unknown): void {
    const nowMs = sharedNowMs()
    this.#counts.taken++
    if (isRecovered) this.#counts.recovered++
    this.#counts.lastTakenAtMs = nowMs
    if (this.#keepsTimes) {
      this.#takenAtMs.push(nowMs)
      if (typeof sentAtMs === 'number') this.#latencyMs.push(nowMs - sentAtMs)
    }
    this.#tell()
  }

  expired(): void {
    const nowMs = sharedNowMs()
    this.#counts.expired++
    this.#counts.lastExpiredAtMs = nowMs
    if (this.#keepsTimes) this.#expiredAtMs.push(nowMs)
    this.#tell()
  }

  claimed(): void {
    this.#counts.claims++
    this.#tell()
  }

  disowned(): void {
    this.#counts.disowned++
    this.#tell()
  }

  done(): void {
    this.#counts.done++
    this.#tell()
  }

  get times(): Times {
    return { takenAtMs: this.#takenAtMs, expiredAtMs: this.#expiredAtMs, latencyMs: this.#latencyMs }
  }

  #tell(): void {
    if (this.#isTelling) return
    this.#isTelling = true
    setTimeout(() => {
      this.#isTelling = false
      say({ type: 'counts', member: this.#member, counts: this.#counts })
    }, TELL_AFTER_MS)
  }
}
