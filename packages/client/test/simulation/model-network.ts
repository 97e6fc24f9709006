/**
 * The network between processes and the server. A connection keeps the order of what it carries and takes as long as
 * chance wants, seldom very long; it may be cut, with or without its ends noticing, and a process may be cut off.
 */
import { type ModelServer, nameOf, type Peer, type Reply } from './model-server.js'
import type { Random } from './random.js'
import type { Process, VirtualTime } from './virtual-time.js'

const USUAL_LATENCY_MS = 1
const GREATEST_NOTICE_MS = 5
const GREATEST_SERVER_NOTICE_MS = 1500

export class ModelNetwork {
  readonly time: VirtualTime
  readonly server: ModelServer
  readonly #links = new Set<Link>()
  readonly #cutOffUntilMs = new Map<Process, number>()
  readonly #slowAnswers = new Map<Process, { readonly untilMs: number; readonly slowMs: number }>()
  #isHealed = false
  /** How probable a slow message is. */
  slowShare = 0
  greatestSlowMs = 0
  /** Messages of channels are lost with this probability. */
  hintLoss = 0
  /** They arrive twice with this one. */
  hintDoubles = 0
  /** The connection breaks when a command was carried out, before it is answered, with this one. */
  answerLoss = 0
  /** Decides the last two. */
  readonly #misfortune: Random
  /** Hears what processes send. */
  onCommand: (process: Process, name: string) => void = () => undefined
  #serverDownUntilMs = 0
  #serverStuckUntilMs = 0

  constructor(time: VirtualTime, server: ModelServer, misfortune: Random = time.random) {
    this.time = time
    this.server = server
    this.#misfortune = misfortune
  }

  get isServerUp(): boolean {
    return this.time.nowMs >= this.#serverDownUntilMs
  }

  linksOf(process: Process): Link[] {
    return [...this.#links].filter((link) => link.process === process)
  }

  latencyMs(): number {
    const { random } = this.time
    if (random.chance(this.slowShare)) return random.between(0, this.greatestSlowMs)
    return random.between(0.05, USUAL_LATENCY_MS)
  }

  /** Nothing gets through to or from a process for some time. */
  cutOff(process: Process, ms: number): void {
    if (this.#isHealed) return
    this.#cutOffUntilMs.set(process, this.time.nowMs + ms)
  }

  /** What a process is answered takes longer, and soon nothing gets through at all, for some time. */
  fade(process: Process, slowMs: number, fadesForMs: number, cutOffMs: number): void {
    this.#slowAnswers.set(process, { untilMs: this.time.nowMs + fadesForMs, slowMs })
    this.time.at(this.time.nowMs + fadesForMs, null, () => this.cutOff(process, cutOffMs))
  }

  answerLatencyMs(process: Process): number {
    const slow = this.#slowAnswers.get(process)
    const slowMs = slow !== undefined && this.time.nowMs < slow.untilMs ? slow.slowMs : 0
    return this.latencyMs() + slowMs
  }

  /** The server takes its time, as it does with a long script. */
  stickServer(ms: number): void {
    this.#serverStuckUntilMs = this.time.nowMs + ms
  }

  /** The server ends; it comes back with a snapshot, or with nothing. */
  restartServer(downMs: number, snapshot: unknown): void {
    this.#serverDownUntilMs = this.time.nowMs + downMs
    this.server.restart(snapshot)
    for (const link of [...this.#links]) link.cut(true, true)
  }

  /** From now on the network is as good as it gets. */
  heal(): void {
    this.#isHealed = true
    this.slowShare = 0
    this.hintLoss = 0
    this.hintDoubles = 0
    this.answerLoss = 0
    this.#slowAnswers.clear()
    this.#cutOffUntilMs.clear()
    this.#serverStuckUntilMs = 0
  }

  open(process: Process, onCut: () => void, onPush: (event: string, texts: string[]) => void): Link {
    const link = new Link(this, process, onCut, onPush)
    this.#links.add(link)
    return link
  }

  close(link: Link): void {
    this.#links.delete(link)
    this.server.forget(link)
  }

  get losesAnswer(): boolean {
    return this.answerLoss > 0 && this.#misfortune.chance(this.answerLoss)
  }

  get doublesHint(): boolean {
    return this.hintDoubles > 0 && this.#misfortune.chance(this.hintDoubles)
  }

  /** When something that would arrive at `atMs` arrives: later, while its process is cut off or the server is stuck. */
  delayedMs(process: Process, isForServer: boolean): number {
    return Math.max(this.#cutOffUntilMs.get(process) ?? 0, isForServer ? this.#serverStuckUntilMs : 0)
  }
}

export class Link implements Peer {
  readonly #network: ModelNetwork
  readonly process: Process
  readonly #onCut: () => void
  readonly #onPush: (event: string, texts: string[]) => void
  #upMs = 0
  #downMs = 0
  /** The process has closed it, or it was cut: nothing arrives any more. */
  #isDead = false
  /** What was on its way to the server is lost as well. */
  #isLossy = false

  constructor(
    network: ModelNetwork,
    process: Process,
    onCut: () => void,
    onPush: (event: string, texts: string[]) => void,
  ) {
    this.#network = network
    this.process = process
    this.#onCut = onCut
    this.#onPush = onPush
  }

  call(name: string, args: readonly string[], reply: Reply): void {
    if (this.#isDead) return
    this.#network.onCommand(this.process, nameOf(name, args))
    this.#up(() => {
      this.#network.server.call(this, name, args, (error, answer) => {
        if (this.#network.losesAnswer) this.cut(true, false)
        else this.#down(() => reply(error, answer))
      })
    })
  }

  push(event: 'message' | 'pmessage', ...texts: string[]): void {
    if (this.#network.time.random.chance(this.#network.hintLoss)) return
    for (let times = this.#network.doublesHint ? 2 : 1; times > 0; times--) {
      this.#down(() => this.#onPush(event, texts))
    }
  }

  /** The process closes it: what it has sent still arrives. */
  close(): void {
    if (this.#isDead) return
    this.#isDead = true
    this.#up(() => this.#network.close(this), true)
  }

  /** The connection breaks. Its process notices, or does not before it misses an answer. */
  cut(isNoticed: boolean, isLossy: boolean = this.#network.time.random.chance(0.5)): void {
    if (this.#isDead) return
    const { time } = this.#network
    this.#isDead = true
    this.#isLossy = isLossy
    if (isNoticed) {
      time.at(time.nowMs + time.random.between(0, GREATEST_NOTICE_MS), this.process, this.#onCut)
      this.#network.close(this)
    } else {
      const noticeMs = time.nowMs + time.random.between(0, GREATEST_SERVER_NOTICE_MS)
      time.at(noticeMs, null, () => this.#network.close(this))
    }
  }

  /** Something on its way to the server, behind what was sent before. */
  #up(arrive: () => void, isLast = false): void {
    const { time } = this.#network
    this.#upMs = Math.max(this.#upMs, time.nowMs + this.#network.latencyMs())
    const turn = (): void => {
      const delayedMs = this.#network.delayedMs(this.process, true)
      if (delayedMs > time.nowMs) time.at(delayedMs, null, turn)
      else if (!this.#isLossy && (isLast || this.#network.isServerUp)) arrive()
    }
    time.at(this.#upMs, null, turn)
  }

  #down(arrive: () => void): void {
    const { time } = this.#network
    this.#downMs = Math.max(this.#downMs, time.nowMs + this.#network.answerLatencyMs(this.process))
    const turn = (): void => {
      if (this.#isDead) return
      const delayedMs = this.#network.delayedMs(this.process, false)
      if (delayedMs > time.nowMs) time.at(delayedMs, this.process, turn)
      else arrive()
    }
    time.at(this.#downMs, this.process, turn)
  }
}
