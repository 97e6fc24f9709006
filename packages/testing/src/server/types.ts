/** What the JavaScript in this folder takes and returns. Declared here, because projects that refer to this one see no JavaScript. */

export interface Server {
  readonly bin: string
  /** What it needs beside the caller's environment. */
  readonly env: Readonly<Record<string, string>>
}

export interface FoundServer extends Server {
  /** In which way it was found. */
  readonly how: string
  readonly version: string
}

export interface FindOptions {
  /** How the version has to begin, such as `7` or `7.2`. */
  readonly version?: string | undefined
  /** Whether a server may be fetched; true by default. */
  readonly download?: boolean | undefined
  readonly cacheDir?: string | undefined
  /** Folders that are searched after PATH. */
  readonly usualPlaces?: readonly string[] | undefined
  readonly log?: ((line: string) => void) | undefined
}

export interface ProcessOptions {
  readonly server: Server
  readonly args: readonly string[]
  /** The unix socket on which the server is to answer. */
  readonly socketPath: string
  /** What is removed when the server has ended. */
  readonly folder?: string | undefined
}

export interface RunningServer {
  /** Of the server itself. */
  readonly pid: number
  /** False when the server has ended, by whatever cause. */
  readonly isRunning: boolean
  /** Sends a signal to the server, if it still runs. */
  signal(signal: NodeJS.Signals): void
  /**
   * Ends the server: with SIGTERM in good order, else at once. Resolves when it is gone, and its folder too. Never rejects.
   * Twice is safe.
   */
  end(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>
}
