/** What happened to one member, counted and timed, and told to the bench now and then. */
import { sharedNowMs } from '../clock.js'
import { type Counts, type JoinOptions, NO_COUNTS, type StreamEvent, type Times } from '../host-protocol.js'
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
  readonly #tellsStreams: boolean
  /** Not told yet. */
  #streams: StreamEvent[] = []

  constructor(
    member: string,
    { keepsTimes = true, tellsStreams = false }: Pick<JoinOptions, 'keepsTimes' | 'tellsStreams'>,
  ) {
    this.#member = member
    this.#keepsTimes = keepsTimes
    this.#tellsStreams = tellsStreams
  }

  /** `sentAtMs`: when the entry was added, where its producer has said so. */
  taken(isRecovered: boolean, sentAtMs?: unknown, stream = ''): void {
    const nowMs = sharedNowMs()
    this.#note('taken', stream, nowMs)
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

  /** From now on the member does nothing for the stream. */
  left(stream: string): void {
    this.#note('left', stream, sharedNowMs())
    this.#tell()
  }

  sessionLost(): void {
    this.#counts.sessionsLost++
    this.#tell()
  }

  sessionRegained(): void {
    this.#counts.sessionsRegained++
    this.#tell()
  }

  get times(): Times {
    return { takenAtMs: this.#takenAtMs, expiredAtMs: this.#expiredAtMs, latencyMs: this.#latencyMs }
  }

  /** Tells at once what has not been told yet. */
  flush(): void {
    if (this.#streams.length > 0) say({ type: 'streams', events: this.#streams })
    this.#streams = []
    say({ type: 'counts', member: this.#member, counts: this.#counts })
  }

  #note(kind: StreamEvent['kind'], stream: string, atMs: number): void {
    if (this.#tellsStreams) this.#streams.push({ kind, member: this.#member, stream, atMs })
  }

  #tell(): void {
    if (this.#isTelling) return
    this.#isTelling = true
    setTimeout(() => {
      this.#isTelling = false
      this.flush()
    }, TELL_AFTER_MS)
  }
}
