/**
 * The course of the demo: who is started, killed, stopped and continued, who joins, and when.
 *
 *   three consumers ready ──> producer ──> a fifth counted: SIGKILL one ──> a third: SIGSTOP another for 6 s
 *     ──> it is back: a fourth consumer joins ──> streams move until all own equally many
 *     ──> the producer goes on with what it has held back; all flights added and every data stream done ──> everybody leaves
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { AirportResults } from './airport-results.js'
import { Child, type Exit } from './child.js'
import type { Delays } from './delays.js'
import { type Fault, type FaultKind, Scoreboard } from './scoreboard.js'
import type { View } from './view.js'
import {
  describeFault,
  describeShares,
  describeSharing,
  describeTakeovers,
  describeTakers,
} from './wording.js'

const VICTIM = 'consumer-1'
const SLEEPER = 'consumer-2'
const CONSUMERS = [VICTIM, SLEEPER, 'consumer-3']
const NEWCOMER = 'consumer-4'
const PRODUCER = 'producer'

const KILL_AT_SHARE = 1 / 5
const STOP_AT_SHARE = 1 / 3
const STOPPED_MS = 6000

const LOOK_EVERY_MS = 100
/** For the whole run, which takes about 40 s. */
const PATIENCE_MS = 120_000
/** For a process that was asked to leave. */
const GOODBYE_MS = 5000

/** How a process ended. */
export interface Ending {
  readonly name: string
  readonly exit: Exit
  /** As it should: killed because that was the plan, or by itself with code 0. */
  readonly isClean: boolean
  /** The last of what it wrote. */
  readonly output: string
}

/** What a run has left behind. */
export interface Outcome {
  readonly board: Scoreboard
  /** By airport. */
  readonly results: ReadonlyMap<string, Delays>
  readonly endings: readonly Ending[]
  /** Why the run did not come to its end, null if it did. */
  readonly problem: string | null
  readonly durationMs: number
}

export class Run {
  readonly #url: string
  readonly #flights: number
  readonly #view: View
  readonly #redis: Redis
  /** A new one for each run, as the server may be one that is used for other things, too. */
  readonly #service = `flights-demo-${randomBytes(3).toString('hex')}`
  readonly #board = new Scoreboard(CONSUMERS)
  readonly #children: Child[] = []
  readonly #told = new Set<Fault | string>()
  /** Aborts when the run cannot go on. */
  readonly #trouble = new AbortController()

  /** `redis` is a connection to the server at `url`. */
  constructor(redis: Redis, url: string, flights: number, view: View) {
    this.#redis = redis
    this.#url = url
    this.#flights = flights
    this.#view = view
  }

  /** Resolves when all processes have left. When the signal aborts, they are told to. To be called once. */
  async play(signal: AbortSignal): Promise<Outcome> {
    const startMs = performance.now()
    const stop = AbortSignal.any([signal, this.#trouble.signal])
    const patience = setTimeout(() => this.#giveUp(`not done after ${PATIENCE_MS / 1000} s`), PATIENCE_MS)
    const looks = setInterval(() => this.#look(), LOOK_EVERY_MS)
    let problem: string | null = null
    try {
      await this.#act(stop)
    } catch (error) {
      problem = stop.aborted ? String(stop.reason) : String(error)
    }
    clearTimeout(patience)
    const endings = await Promise.all(this.#children.map((child) => this.#end(child)))
    clearInterval(looks)
    this.#look()
    const results = await new AirportResults(this.#service).read(this.#redis)
    await this.#cleanUp()
    return { board: this.#board, results, endings, problem, durationMs: performance.now() - startMs }
  }

  async #act(stop: AbortSignal): Promise<void> {
    const standings = CONSUMERS.map((name) => this.#board.standing(name))
    for (const name of CONSUMERS) this.#start(name, 'consumer')
    await until(() => standings.every(({ state }) => state === 'held'), stop)
    this.#view.tell('three consumers are ready; the producer starts')
    const producer = this.#start(PRODUCER, 'producer')

    await until(() => this.#board.counted >= this.#flights * KILL_AT_SHARE, stop)
    this.#hit(VICTIM, 'killed')
    await until(() => this.#board.counted >= this.#flights * STOP_AT_SHARE, stop)
    const sleeper = this.#hit(SLEEPER, 'stopped')
    await sleep(STOPPED_MS, undefined, { signal: stop })
    sleeper.signal('SIGCONT')
    this.#view.tell(`${SLEEPER} continued with SIGCONT after ${STOPPED_MS / 1000} s`)
    await until(() => this.#board.standing(SLEEPER).state === 'held', stop)
    const newcomer = this.#board.addConsumer(NEWCOMER, Date.now())
    this.#start(NEWCOMER, 'consumer')
    await until(() => newcomer.state === 'held', stop)
    this.#view.tell(`${NEWCOMER} has joined; ${describeShares(this.#board.standings)}`)

    await until(() => this.#board.sharing?.evenAfterMs != null, stop)
    producer.goOn()
    await until(async () => producer.exit !== undefined && (await this.#isAllDone()), stop)
  }

  #start(name: string, program: string): Child {
    const env = { POD_NAME: name, REDIS_URL: this.#url, DEMO_SERVICE: this.#service }
    const child = new Child(name, program, env, (report) => this.#board.accept(name, report))
    this.#children.push(child)
    void child.exited.then((exit) => {
      const isDone = name === PRODUCER && exit.code === 0
      if (!isDone && !this.#wasKilled(name)) this.#giveUp(`${name} ended (${exit.signal ?? exit.code})`)
    })
    return child
  }

  #hit(name: string, kind: FaultKind): Child {
    const child = this.#children.find((each) => each.name === name)
    if (child === undefined) throw new Error(`there is no ${name}`)
    child.signal(kind === 'killed' ? 'SIGKILL' : 'SIGSTOP')
    this.#view.tell(describeFault(this.#board.addFault(kind, name, Date.now())))
    return child
  }

  /** Shows how things stand, and tells what has come of the faults. */
  #look(): void {
    for (const fault of this.#board.faults) {
      if (fault.isRepaired) this.#tellOnce(fault, `${describeTakeovers(fault)}; ${describeTakers(fault)}`)
      const { lost, state } = this.#board.standing(fault.consumer)
      const isAwake = fault.kind === 'stopped' && state === 'held'
      if (isAwake) this.#tellOnce('awake', `${fault.consumer} was told that it has lost ${lost} streams`)
    }
    const { sharing, standings } = this.#board
    if (sharing !== null && sharing.evenAfterMs !== null) {
      this.#tellOnce('moves', describeSharing(sharing))
      this.#tellOnce('even', `all own about as many: ${describeShares(standings)}`)
    }
    this.#view.show(this.#board)
  }

  #tellOnce(what: Fault | string, event: string): void {
    if (this.#told.has(what)) return
    this.#told.add(what)
    this.#view.tell(event)
  }

  /** True once every data stream is done: then the load-balancer stream has no entries left. */
  async #isAllDone(): Promise<boolean> {
    return (await this.#redis.xlen(`${this.#service}-input`)) === 0
  }

  #wasKilled(name: string): boolean {
    return this.#board.faults.some(({ consumer, kind }) => consumer === name && kind === 'killed')
  }

  #giveUp(problem: string): void {
    this.#trouble.abort(problem)
  }

  async #end(child: Child): Promise<Ending> {
    const exit = await child.end(GOODBYE_MS)
    const { name, output } = child
    const isClean = this.#wasKilled(name) ? exit.signal === 'SIGKILL' : exit.code === 0
    return { name, exit, isClean, output }
  }

  async #cleanUp(): Promise<void> {
    for await (const keys of this.#redis.scanStream({ match: `${this.#service}*`, count: 1000 })) {
      if ((keys as string[]).length > 0) await this.#redis.unlink(...(keys as string[]))
    }
  }
}

/** Rejects when the signal aborts. */
async function until(isTrue: () => boolean | Promise<boolean>, signal: AbortSignal): Promise<void> {
  while (!(await isTrue())) await sleep(LOOK_EVERY_MS, undefined, { signal })
}
