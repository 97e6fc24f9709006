/** Work on streams whose commits may fail and may be repeated, and what must hold of it. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { OwnedStream } from '@redis-stream-client/client'
import type { Member } from './member.js'

const STEPS = 5

/** Owners that commit step by step and do not give up, and a book of what they were told was stored. */
export class Progress {
  /** Entries that somebody has owned. */
  readonly served: Set<string> = new Set()
  readonly violations: string[] = []
  readonly #stored = new Map<string, number>()
  readonly #stepMs: number

  constructor(stepMs: number = 0) {
    this.#stepMs = stepMs
  }

  async workOn(stream: OwnedStream, member: Member): Promise<void> {
    const { idInLbs } = stream
    const first = Number(stream.checkpoint ?? 0)
    const stored = this.#stored.get(idInLbs) ?? 0
    if (first < stored) this.violations.push(`${idInLbs}: ${stored} was stored, ${first} is there`)
    this.served.add(idInLbs)
    for (let step = first + 1; step <= STEPS; step++) {
      if (this.#stepMs > 0) await sleep(this.#stepMs)
      if (!(await this.#stubbornly(stream, () => stream.commit(`${step}`)))) return
      this.#stored.set(idInLbs, step)
    }
    await this.#stubbornly(stream, () => member.done(stream))
  }

  /** False once the stream is somebody else's. */
  async #stubbornly(stream: OwnedStream, call: () => Promise<void>): Promise<boolean> {
    for (;;) {
      try {
        await call()
        return true
      } catch (error) {
        const { code } = error as { code?: string }
        if (code === 'SESSION_LOST' || code === 'STREAM_NOT_OWNED') return false
        if (code !== 'REDIS_ERROR' || !stream.owned) throw error
      }
    }
  }
}
