/** A client in a process of its own, that can be killed, stopped, stalled and told what to do. See consumer.ts. */

import { fileURLToPath } from 'node:url'
import type { ClientOptions, LbsInfo } from '@redis-stream-client/client'
import { type JsonLine, Program } from './processes.js'

// From the sources as well as from dist, the compiled program is what runs.
const PROGRAM = fileURLToPath(new URL('../../dist/src/processes/consumer.js', import.meta.url)).replace(
  '/dist/dist/',
  '/dist/',
)
/** Starting many processes on a busy machine takes its time. */
const LINE_TIMEOUT_MS = 25_000

/** Options that can be written as JSON. */
export type ConsumerOptions = Omit<ClientOptions, 'consumerId' | 'logger' | 'metrics'>

/** What the process does by itself with a stream it owns. */
export interface ConsumerWork {
  /** Notes that a stream leaves: `<prefix>:<data stream>`, one line of {@link WorkNote} for each step. */
  readonly notesPrefix: string
  readonly steps: number
  readonly stepMs: number
}

/** A line that a working owner has written to Redis while it trusted its ownership. */
export interface WorkNote {
  readonly client: string
  readonly id: string
  readonly fence: number
  /** `n` of the entry's Info. */
  readonly n: number
  readonly step: number
}

export interface ConsumerProcessOptions {
  readonly url: string
  readonly service: string
  readonly client?: ConsumerOptions
  /** `claim` by default. */
  readonly onExpired?: 'claim' | 'ignore'
  /** Without it, streams are held until a command says otherwise. */
  readonly work?: ConsumerWork
  /** False: nobody reads the notifications. */
  readonly reads?: boolean
  /** Added to its environment; undefined removes. POD_NAME is its name by default. */
  readonly env?: Readonly<Record<string, string | undefined>>
}

export type ConsumerCommand =
  | { readonly call: 'claim'; readonly payload: LbsInfo }
  | { readonly call: 'commit'; readonly fence: number; readonly checkpoint: string }
  | { readonly call: 'done' | 'release' | 'look'; readonly fence: number }
  | { readonly call: 'stall'; readonly ms: number }
  | { readonly call: 'leave'; readonly way: 'close' | 'done' | 'abort' }
  | { readonly call: 'close' | 'health' }

export interface StreamLine {
  readonly dataStreamName: string
  readonly idInLbs: string
  readonly fencingToken: number
  readonly checkpoint: string | null
  readonly recovered: boolean
  /** When it was given, in milliseconds since 1970. */
  readonly at: number
}

export class ConsumerProcess {
  readonly name: string
  readonly program: Program
  #calls = 0

  private constructor(name: string, program: Program) {
    this.name = name
    this.program = program
  }

  static start(name: string, { env, ...options }: ConsumerProcessOptions): ConsumerProcess {
    const program = Program.start(PROGRAM, {
      args: [JSON.stringify(options)],
      env: { POD_NAME: name, LOG_LEVEL: 'silent', ...env },
    })
    return new ConsumerProcess(name, program)
  }

  get clientId(): string {
    return `redis-consumer-${this.name}`
  }

  async ready(): Promise<void> {
    await this.program.nextLine(({ type }) => type === 'ready', LINE_TIMEOUT_MS)
  }

  /** The next stream it is given, by StreamAdded or by claiming. */
  async given(dataStreamName?: string, timeoutMs: number = LINE_TIMEOUT_MS): Promise<StreamLine> {
    const line = await this.program.nextLine(
      ({ type, dataStreamName: name }) =>
        type === 'given' && (dataStreamName === undefined || name === dataStreamName),
      timeoutMs,
    )
    return line as unknown as StreamLine
  }

  /** The next notification of a type (of a stream). */
  async told(type: string, dataStreamName?: string, timeoutMs: number = LINE_TIMEOUT_MS): Promise<JsonLine> {
    return await this.program.nextLine(
      (line) =>
        line['type'] === type && (dataStreamName === undefined || line['dataStreamName'] === dataStreamName),
      timeoutMs,
    )
  }

  /** Sends a command and waits for its answer: what it resolved with, or the code it was refused with. */
  async call(command: ConsumerCommand, timeoutMs: number = LINE_TIMEOUT_MS): Promise<JsonLine> {
    const n = this.send(command)
    return await this.program.nextLine((line) => line['type'] === 'answer' && line['n'] === n, timeoutMs)
  }

  /** Sends a command without waiting for its answer. */
  send(command: ConsumerCommand): number {
    const n = ++this.#calls
    this.program.send({ n, ...command })
    return n
  }

  async kill(): Promise<void> {
    await this.program.kill()
  }

  pause(): void {
    this.program.pause()
  }

  resume(): void {
    this.program.resume()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
  }
}
