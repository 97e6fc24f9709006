/** A host process as the bench sees it: started, told what to do, listened to, killed. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { reapAtExit } from '@redis-stream-client/test/support/child-reaper'
import { sharedNowMs } from './clock.js'
import {
  type Counts,
  type Heap,
  type HostCommand,
  type HostLine,
  type HostReport,
  type JoinOptions,
  NO_COUNTS,
  type StreamEvent,
  type Times,
} from './host-protocol.js'

export type HostKind = 'ours' | 'bullmq' | 'bare' | 'soaker'

const ANSWER_TIMEOUT_MS = 60_000
const MAX_STDERR_CHARS = 4000

interface Waiting {
  readonly resolve: (result: unknown) => void
  readonly reject: (error: Error) => void
}

export class Host implements AsyncDisposable {
  readonly counts: Map<string, Counts> = new Map()
  /** Called after every line of counts. */
  onCounts: (() => void) | undefined
  /** Called with what members tell of their streams. */
  onStreams: ((events: readonly StreamEvent[]) => void) | undefined
  readonly #child: ChildProcessWithoutNullStreams
  readonly #waiting = new Map<number, Waiting>()
  readonly #ready: Promise<void>
  #calls = 0
  #stderr = ''

  private constructor(command: string, args: readonly string[]) {
    const child = spawn(command, args, { env: { ...process.env, LOG_LEVEL: 'silent' } })
    this.#child = child
    reapAtExit(child)
    child.stdin.on('error', () => undefined) // it was just killed
    child.stderr.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString()).slice(-MAX_STDERR_CHARS)
    })
    child.once('error', (error) => this.#end(error.message))
    child.once('close', (code, signal) => this.#end(`ended (${signal ?? code})`))
    let onReady = (): void => {}
    this.#ready = new Promise((resolve, reject) => {
      onReady = resolve
      this.#waiting.set(0, { resolve: () => resolve(), reject })
    })
    this.#ready.catch(() => undefined)
    createInterface({ input: child.stdout }).on('line', (text) => {
      const line = JSON.parse(text) as HostLine
      if (line.type === 'ready') {
        this.#waiting.delete(0)
        onReady()
      } else {
        this.#hear(line)
      }
    })
  }

  /** Resolves when the process takes commands. */
  static async start(kind: HostKind, url: string, nodeArgs: readonly string[] = []): Promise<Host> {
    const program = fileURLToPath(new URL(`./programs/${kind}.js`, import.meta.url))
    return await Host.run(process.execPath, [...nodeArgs, program, url])
  }

  static async startAll(count: number, kind: HostKind, url: string): Promise<Host[]> {
    return await Promise.all(Array.from({ length: count }, () => Host.start(kind, url)))
  }

  /** Any program that speaks the protocol. */
  static async run(command: string, args: readonly string[]): Promise<Host> {
    const host = new Host(command, args)
    await host.#ready
    return host
  }

  async join(member: string, options: JoinOptions): Promise<void> {
    this.counts.set(member, NO_COUNTS)
    await this.#call({ call: 'join', member, ...options })
  }

  /** As an orderly end: `close` of our client. */
  async leave(member: string): Promise<void> {
    await this.#call({ call: 'leave', member })
  }

  async times(member: string): Promise<Times> {
    return (await this.#call({ call: 'times', member })) as Times
  }

  async readSignals(member: string): Promise<void> {
    await this.#call({ call: 'signals', member })
  }

  async measure({ watchesLoop = true }: { watchesLoop?: boolean } = {}): Promise<void> {
    await this.#call({ call: 'measure', watchesLoop })
  }

  async report(): Promise<HostReport> {
    return (await this.#call({ call: 'report' })) as HostReport
  }

  async collect(): Promise<Heap> {
    return (await this.#call({ call: 'collect' })) as Heap
  }

  /** SIGKILL. Resolves with the moment it was sent, at once. */
  kill(): number {
    const atMs = sharedNowMs()
    this.#child.kill('SIGKILL')
    return atMs
  }

  /** SIGSTOP: as if its machine hung. */
  pause(): void {
    this.#child.kill('SIGSTOP')
  }

  resume(): void {
    this.#child.kill('SIGCONT')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { exitCode, signalCode, pid } = this.#child
    if (exitCode !== null || signalCode !== null || pid === undefined) return
    const closed = once(this.#child, 'close')
    this.#child.kill('SIGKILL')
    await closed
  }

  async #call(command: HostCommand): Promise<unknown> {
    const n = ++this.#calls
    let timer: NodeJS.Timeout | undefined
    try {
      return await new Promise<unknown>((resolve, reject) => {
        this.#waiting.set(n, { resolve, reject })
        timer = setTimeout(() => reject(new Error(`no answer to ${command.call}`)), ANSWER_TIMEOUT_MS)
        this.#child.stdin.write(`${JSON.stringify({ n, ...command })}\n`)
      })
    } finally {
      clearTimeout(timer)
      this.#waiting.delete(n)
    }
  }

  #hear(line: Exclude<HostLine, { type: 'ready' }>): void {
    if (line.type === 'counts') {
      this.counts.set(line.member, line.counts)
      this.onCounts?.()
      return
    }
    if (line.type === 'streams') {
      this.onStreams?.(line.events)
      return
    }
    const waiting = this.#waiting.get(line.n)
    if (line.error === undefined) waiting?.resolve(line.result)
    else waiting?.reject(new Error(line.error))
  }

  #end(how: string): void {
    for (const { reject } of this.#waiting.values()) reject(new Error(`a host ${how}\n${this.#stderr}`))
    this.#waiting.clear()
  }
}

/** Waits until the hosts have counted what is wanted. Rejects with what was counted last. */
export async function untilCounted(
  what: string,
  hosts: readonly Host[],
  isWanted: () => boolean,
  timeoutMs = 60_000,
): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  try {
    await new Promise<void>((resolve, reject) => {
      const look = (): void => {
        if (isWanted()) resolve()
      }
      timer = setTimeout(
        () => reject(new Error(`not within ${timeoutMs} ms: ${what}; ${describe(hosts)}`)),
        timeoutMs,
      )
      for (const host of hosts) host.onCounts = look
      look()
    })
  } finally {
    clearTimeout(timer)
    for (const host of hosts) host.onCounts = undefined
  }
}

/** The sum of one count over all members, or over those whose name `filter` accepts. */
export function total(
  hosts: readonly Host[],
  count: keyof Counts,
  filter: (member: string) => boolean = () => true,
): number {
  let sum = 0
  for (const host of hosts)
    for (const [member, counts] of host.counts) if (filter(member)) sum += counts[count]
  return sum
}

/** The greatest of one count. */
export function latest(hosts: readonly Host[], count: keyof Counts): number {
  return Math.max(...hosts.flatMap((host) => [...host.counts.values()].map((counts) => counts[count])))
}

function describe(hosts: readonly Host[]): string {
  return JSON.stringify(hosts.map((host) => Object.fromEntries(host.counts))).slice(0, 2000)
}
