/**
 * Time in which the real client runs without waiting: timers, clocks and chance of the process are replaced, and what
 * is due next happens at once. Every turn belongs to a process of the simulation or to the world around them, and all
 * promises it settles are worked off before the next turn begins; so a seed always gives the same run.
 *
 * Each process has clocks of its own: it may be paused, which delays its turns, be killed, which drops them, and its
 * wall clock may be set.
 */
import crypto from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import timersPromises from 'node:timers/promises'
import type { Random } from './random.js'

const real = {
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setImmediate: globalThis.setImmediate,
  performanceNow: performance.now.bind(performance),
  dateNow: Date.now,
  mathRandom: Math.random,
  sleep: timersPromises.setTimeout,
  randomBytes: crypto.randomBytes,
  stackTraceLimit: Error.stackTraceLimit,
}
/** How late a timer may be. */
const GREATEST_LATENESS_MS = 1
/** The wall clock when the simulation begins: Redis ids and fences have to be greater than 0. */
const WALL_START_MS = 1_000_000_000_000

/** One process: what is paused, killed, or has its clock set. */
export interface Process {
  readonly name: string
  isDead: boolean
  pausedUntilMs: number
  /** How fast its clock runs. */
  readonly rate: number
  wallStepMs: number
}

interface Turn {
  readonly atMs: number
  readonly order: number
  readonly process: Process | null
  readonly act: () => void
  readonly timer?: Timer
}

class Timer {
  isCleared = false
  ref(): this {
    return this
  }
  unref(): this {
    return this
  }
}

export class VirtualTime {
  readonly random: Random
  #nowMs = 0
  #order = 0
  #current: Process | null = null
  readonly #heap: Turn[] = []
  #turns = 0

  constructor(random: Random) {
    this.random = random
  }

  get nowMs(): number {
    return this.#nowMs
  }

  get wallMs(): number {
    return WALL_START_MS + this.#nowMs
  }

  /** How many turns there have been. */
  get turns(): number {
    return this.#turns
  }

  get current(): Process | null {
    return this.#current
  }

  /** Has something happen later, in the name of a process or of the world. */
  at(atMs: number, process: Process | null, act: () => void): void {
    this.#push({ atMs: Math.max(atMs, this.#nowMs), order: this.#order++, process, act })
  }

  /** Does something now, in the name of a process. */
  as<T>(process: Process, act: () => T): T {
    const before = this.#current
    this.#current = process
    try {
      return act()
    } finally {
      this.#current = before
    }
  }

  /** Lets time pass until a moment, or until there is a reason to stop after some turn. */
  async pass(untilMs: number, isOver: () => boolean): Promise<void> {
    setRunning(this)
    try {
      for (let turn = this.#heap[0]; turn !== undefined && turn.atMs <= untilMs; turn = this.#heap[0]) {
        this.#pop()
        const { process } = turn
        if (process?.isDead || turn.timer?.isCleared) continue
        this.#nowMs = turn.atMs
        if (process !== null && process.pausedUntilMs > turn.atMs) {
          this.#push({ ...turn, atMs: process.pausedUntilMs })
          continue
        }
        this.#turns++
        this.#current = process
        turn.act()
        if (process !== null) await new Promise<void>((resolve) => real.setImmediate(resolve))
        this.#current = null
        if (isOver()) return
      }
      this.#nowMs = Math.max(this.#nowMs, untilMs)
    } finally {
      this.#current = null
      setRunning(null)
    }
  }

  monotonicMs(process: Process): number {
    return this.#nowMs * process.rate
  }

  wallMsOf(process: Process): number {
    return WALL_START_MS + this.monotonicMs(process) + process.wallStepMs
  }

  /** A timer of a process: late by up to a millisecond, as timers are. */
  setTimer(process: Process, ms: number, act: () => void): Timer {
    const timer = new Timer()
    const dueMs = this.#nowMs + Math.max(1, ms) / process.rate + this.random.between(0, GREATEST_LATENESS_MS)
    this.#push({ atMs: dueMs, order: this.#order++, process, act, timer })
    return timer
  }

  #push(turn: Turn): void {
    const heap = this.#heap
    let at = heap.length
    while (at > 0) {
      const above = (at - 1) >> 1
      const parent = heap[above] as Turn
      if (!isBefore(turn, parent)) break
      heap[at] = parent
      at = above
    }
    heap[at] = turn
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return
    let at = 0
    for (;;) {
      let below = 2 * at + 1
      if (below >= heap.length) break
      const right = heap[below + 1]
      if (right !== undefined && isBefore(right, heap[below] as Turn)) below++
      const child = heap[below] as Turn
      if (!isBefore(child, last)) break
      heap[at] = child
      at = below
    }
    heap[at] = last
  }
}

function isBefore(a: Turn, b: Turn): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}

let running: VirtualTime | null = null

function setRunning(time: VirtualTime | null): void {
  running = time
}

/** The time and the process whose turn it is, or null outside of every simulated process. */
function turnNow(): { time: VirtualTime; process: Process } | null {
  const process = running?.current
  return running !== null && process != null ? { time: running, process } : null
}

/** Puts virtual time in the place of the real one for as long as `act` takes. Outside of turns time stays real. */
export async function withVirtualTime<T>(act: () => Promise<T>): Promise<T> {
  install()
  try {
    return await act()
  } finally {
    uninstall()
  }
}

function install(): void {
  globalThis.setTimeout = ((act: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) => {
    const turn = turnNow()
    if (turn === null) return real.setTimeout(act, ms, ...args)
    return turn.time.setTimer(turn.process, ms, () => act(...args))
  }) as unknown as typeof setTimeout
  globalThis.clearTimeout = ((timer: unknown) => {
    if (timer instanceof Timer) timer.isCleared = true
    else real.clearTimeout(timer as NodeJS.Timeout)
  }) as typeof clearTimeout
  globalThis.setImmediate = ((act: (...args: unknown[]) => void, ...args: unknown[]) => {
    const turn = turnNow()
    if (turn === null) return real.setImmediate(act, ...args)
    turn.time.at(turn.time.nowMs, turn.process, () => act(...args))
    return undefined
  }) as unknown as typeof setImmediate
  performance.now = () => {
    const turn = turnNow()
    return turn === null ? real.performanceNow() : turn.time.monotonicMs(turn.process)
  }
  Date.now = () => {
    const turn = turnNow()
    return turn === null ? real.dateNow() : Math.floor(turn.time.wallMsOf(turn.process))
  }
  Math.random = () => turnNow()?.time.random.next() ?? real.mathRandom()
  timersPromises.setTimeout = (<T>(ms?: number, value?: T, options?: { signal?: AbortSignal }) =>
    turnNow() === null ? real.sleep(ms, value, options) : sleep(ms ?? 0, value, options?.signal)) as never
  Error.stackTraceLimit = 0 // errors are ordinary here, and stacks take time
  crypto.randomBytes = ((size: number) => {
    const turn = turnNow()
    return turn === null ? real.randomBytes(size) : Buffer.from(turn.time.random.hex(size), 'hex')
  }) as typeof crypto.randomBytes
  syncBuiltinESMExports()
}

function uninstall(): void {
  globalThis.setTimeout = real.setTimeout
  globalThis.clearTimeout = real.clearTimeout
  globalThis.setImmediate = real.setImmediate
  Reflect.deleteProperty(performance, 'now')
  Date.now = real.dateNow
  Math.random = real.mathRandom
  timersPromises.setTimeout = real.sleep
  crypto.randomBytes = real.randomBytes
  Error.stackTraceLimit = real.stackTraceLimit
  syncBuiltinESMExports()
}

/** As setTimeout of node:timers/promises. */
function sleep<T>(ms: number, value: T, signal: AbortSignal | undefined): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer)
      reject(new DOMException('The operation was aborted', 'AbortError'))
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort)
      resolve(value)
    }, ms)
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}
