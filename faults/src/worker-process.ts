/** A worker in a process of its own behind a proxy of its own, so that each fault can be one client's. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ClientOptions } from '@redis-stream-client/client'
import { Program } from '@redis-stream-client/test/support/processes'
import type { RedisServer } from '@redis-stream-client/test/support/redis-server'
import { TcpProxy } from '@redis-stream-client/test/support/tcp-proxy'
import type { Work } from './work.js'

// From the sources as well as from dist, the compiled program is what runs.
const FOLDER = fileURLToPath(new URL('../dist/src/', import.meta.url)).replace('/dist/dist/', '/dist/')
const READY_TIMEOUT_MS = 20_000

export interface WorkerOptions {
  readonly url: string
  readonly ledgerUrl: string
  readonly service: string
  readonly historyFile: string
  readonly stepMs: number
  readonly client: ClientOptions
}

export type WorkerCommand =
  | { readonly type: 'stall'; readonly ms: number }
  | { readonly type: 'clock'; readonly stepMs: number }
  | { readonly type: 'unread'; readonly ms: number }
  | { readonly type: 'ignoreSignals'; readonly ms: number }
  | { readonly type: 'rest' }

/** What a process holds when its garbage is collected. */
export interface Holdings {
  readonly heapBytes: number
  /** Sockets, timers and what else keeps Node going, counted by kind. */
  readonly resources: Readonly<Record<string, number>>
}

export interface WorkerProcessOptions extends Omit<WorkerOptions, 'url'> {
  readonly server: RedisServer
  readonly program: Work['program']
  /** The package to run instead of the one of this workspace, as the path of its main module. */
  readonly weakenedModule: string | undefined
}

export class WorkerProcess {
  readonly name: string
  readonly historyFile: string
  readonly proxy: TcpProxy
  readonly program: Program

  private constructor(name: string, historyFile: string, proxy: TcpProxy, program: Program) {
    this.name = name
    this.historyFile = historyFile
    this.proxy = proxy
    this.program = program
  }

  static async start(name: string, options: WorkerProcessOptions): Promise<WorkerProcess> {
    const { program: programName, server, weakenedModule, ...rest } = options
    const proxy = await TcpProxy.listen({ port: server.port })
    const settings: WorkerOptions = { ...rest, url: proxy.url }
    const variable = programName === 'worker' ? 'FAULTS_CLIENT' : 'FAULTS_WORKER'
    const program = Program.start(join(FOLDER, `${programName}.js`), {
      args: [JSON.stringify(settings)],
      nodeArgs: ['--expose-gc'],
      env: { POD_NAME: name, LOG_LEVEL: 'silent', [variable]: weakenedModule },
    })
    return new WorkerProcess(name, options.historyFile, proxy, program)
  }

  async ready(): Promise<void> {
    await this.program.nextLine(({ type }) => type === 'ready', READY_TIMEOUT_MS)
  }

  async holdings(): Promise<Holdings> {
    this.tell({ type: 'rest' })
    const line = await this.program.nextLine(({ type }) => type === 'resting', READY_TIMEOUT_MS)
    return line as unknown as Holdings
  }

  tell(command: WorkerCommand): void {
    this.program.send({ ...command })
  }

  async kill(): Promise<void> {
    await this.program.kill()
    await this.proxy[Symbol.asyncDispose]()
  }

  /** SIGTERM: it hands over and ends. Answers what was wrong with that, null if nothing. */
  async leave(timeoutMs: number): Promise<string | null> {
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      void this.program.kill()
    }, timeoutMs)
    const { code, signal } = await this.program.kill('SIGTERM')
    clearTimeout(timer)
    await this.proxy[Symbol.asyncDispose]()
    if (isLate) {
      const said = this.program.lines.find(({ type }) => type === 'lingering')
      const why = said === undefined ? 'its event loop stood still' : JSON.stringify(said)
      return `${this.name} had not ended ${timeoutMs} ms after SIGTERM: ${why}`
    }
    return code === 0 ? null : `${this.name} ended with ${signal ?? code} when it was asked to leave`
  }
}
