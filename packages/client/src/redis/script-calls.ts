/** Runs the scripts of a service over its connection, and waits for replicas where that is wanted. */
import type { Connection } from './connection.js'
import { ReplicatedWrites, type ReplicaWait } from './replicated-writes.js'
import type { Script } from './script.js'

/** How many replicas have to have what owners write, and how long to wait for them. */
export interface Replicas extends ReplicaWait {
  /** Called after each wait. */
  readonly onAnswer: (operation: string, acknowledged: number, waitError: Error | null) => void
}

export class ScriptCalls {
  readonly #connection: Connection
  readonly #replicas: (Replicas & { readonly writes: ReplicatedWrites }) | null

  /** `replicas`: for `write`, which without them is `run`. */
  constructor(connection: Connection, replicas: Replicas | null = null) {
    this.#connection = connection
    this.#replicas = replicas && { ...replicas, writes: new ReplicatedWrites(connection, replicas) }
  }

  /** The one place that trusts the answer of a script to have the shape its header describes. */
  async run<T>(script: Script, keys: readonly string[], args: readonly string[]): Promise<T> {
    return (await this.#connection.run((redis) => script.run(redis, keys, args))) as T
  }

  async runInBuffers<T>(script: Script, keys: readonly string[], args: readonly string[]): Promise<T> {
    return (await this.#connection.run((redis) => script.run(redis, keys, args, { inBuffers: true }))) as T
  }

  /** Runs a script whose writes have to reach replicas; says whether too few of them have it. */
  async write<T>(
    operation: string,
    script: Script,
    keys: readonly string[],
    args: readonly string[],
  ): Promise<{ answer: T; isBehind: boolean }> {
    const replicas = this.#replicas
    if (replicas === null) return { answer: await this.run<T>(script, keys, args), isBehind: false }
    const { answer, acknowledged, waitError } = await replicas.writes.run(script, keys, args)
    replicas.onAnswer(operation, acknowledged, waitError)
    return { answer: answer as T, isBehind: acknowledged < replicas.count }
  }
}

/** Sends again what a script has not answered for, until it has answered for all or answers with one word. */
export async function inParts<T, A extends readonly unknown[] | string>(
  items: readonly T[],
  send: (part: readonly T[]) => Promise<A>,
): Promise<A> {
  const answers: unknown[] = []
  do {
    const part = await send(items.slice(answers.length))
    if (typeof part === 'string') return part
    if (part.length === 0 && items.length > 0) {
      throw new TypeError('a script that answers for nothing of what it was given')
    }
    for (const answer of part) answers.push(answer)
  } while (answers.length < items.length)
  return answers as unknown as A
}
