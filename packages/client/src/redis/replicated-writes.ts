/**
 * Scripts whose writes have to be on replicas: WAIT tells how many have them.
 *
 * Redis answers nothing else on a connection while it waits there, and WAIT knows only the writes of its own connection.
 * So what is written at the same time goes in one pipeline with one WAIT behind it, and what comes while that is under
 * way goes with the next: however many calls there are, each waits behind one other WAIT at most.
 */
import type { Connection } from './connection.js'
import { isRefusal, isReply } from './redis-errors.js'
import type { Script } from './script.js'

export interface ReplicaWait {
  readonly count: number
  readonly timeoutMs: number
}

/** What a script has answered, and how many replicas have what it wrote. */
export interface ReplicatedAnswer {
  readonly answer: unknown
  /** 0 where Redis does not let anybody wait: what the script did is done all the same. */
  readonly acknowledged: number
  readonly waitError: Error | null
}

interface Write {
  readonly script: Script
  readonly keys: readonly string[]
  readonly args: readonly string[]
  readonly resolve: (answer: ReplicatedAnswer) => void
  readonly reject: (error: unknown) => void
}

export class ReplicatedWrites {
  readonly #connection: Connection
  readonly #wait: ReplicaWait
  #waiting: Write[] = []
  #isUnderWay = false
  /** Scripts the server is known to have: a WAIT behind one that it has not would be in vain. */
  readonly #loaded = new Set<Script>()

  constructor(connection: Connection, wait: ReplicaWait) {
    this.#connection = connection
    this.#wait = wait
    connection.onReconnect(() => this.#loaded.clear())
  }

  /** Runs a script and waits. Rejects as `Connection.run`, and with what the server says of the script. */
  run(script: Script, keys: readonly string[], args: readonly string[]): Promise<ReplicatedAnswer> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ script, keys, args, resolve, reject })
      if (!this.#isUnderWay) void this.#sendAll()
    })
  }

  async #sendAll(): Promise<void> {
    this.#isUnderWay = true
    await Promise.resolve() // for the other calls of this turn
    while (this.#waiting.length > 0) {
      const batch = this.#waiting
      this.#waiting = []
      try {
        await this.#send(batch)
      } catch (error) {
        for (const write of batch) write.reject(error)
      }
    }
    this.#isUnderWay = false
  }

  async #send(batch: readonly Write[]): Promise<void> {
    const { count, timeoutMs } = this.#wait
    const results = await this.#connection.run(async (redis) => {
      const pipeline = redis.pipeline()
      const known = new Set(this.#loaded)
      for (const { args, keys, script } of batch) {
        script.addTo(pipeline, keys, args, known.has(script))
        known.add(script) // the next of this batch finds it there
      }
      return (await pipeline.wait(count, timeoutMs).exec()) ?? []
    })
    const [waitError = null, acknowledged] = results[batch.length] ?? []
    for (const [index, write] of batch.entries()) {
      const [error = null, answer] = results[index] ?? []
      if (isReply(error, 'NOSCRIPT')) {
        this.#loaded.clear() // another server, or one that has forgotten them all
        this.#waiting.push(write)
        continue
      }
      const problem = error ?? (isRefusal(waitError) ? null : waitError)
      if (problem !== null) write.reject(write.script.explain(problem))
      else write.resolve({ answer, acknowledged: waitError === null ? Number(acknowledged) : 0, waitError })
      if (error === null) this.#loaded.add(write.script)
    }
  }
}
