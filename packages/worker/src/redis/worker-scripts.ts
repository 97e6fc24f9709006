/** The worker's scripts, typed. lua/*.lua say what each does and answers. All are safe to send again. */
import { type Connection, type Fence, redisError, Script } from '@redis-stream-client/client/internal'
import { afterPosition } from '../stream-position.js'
import type { WorkerKeys } from '../worker-keys.js'
import * as lua from './lua.generated.js'

const scripts = {
  transact: new Script(lua.transactLua),
  deleteStream: new Script(lua.deleteStreamLua),
  lag: new Script(lua.lagLua),
}

/** A command that is executed inside a script: its words, and which of them are keys. */
export interface ScriptCommand {
  readonly words: readonly (string | Buffer)[]
  readonly keys: readonly (string | Buffer)[]
}

export type TransactAnswer =
  | { status: 'OK'; replies: readonly unknown[] }
  | { status: 'REFUSED'; index: number; error: string }
  | { status: 'DONE' | 'STALE' | OwnerAnswer }

export type DeleteAnswer = 'DELETED' | 'NEWER' | OwnerAnswer

type OwnerAnswer = 'SESSION_LOST' | 'NOT_OWNED'

type RawTransactAnswer = ['OK', unknown[]] | ['REFUSED', number, string] | ['DONE' | 'STALE' | OwnerAnswer]

/** Records behind a position, counted up to a limit, and the id of the last record, null if there is none. */
export interface StreamLag {
  readonly records: number
  readonly lastId: string | null
}

export class WorkerScripts {
  readonly #connection: Connection
  readonly #keys: WorkerKeys

  constructor(connection: Connection, keys: WorkerKeys) {
    this.#connection = connection
    this.#keys = keys
  }

  async transact(
    fence: Fence,
    number: number,
    checkpoint: string,
    commands: readonly ScriptCommand[],
  ): Promise<TransactAnswer> {
    const keys = this.#keys
    const raw = await this.#run<RawTransactAnswer>(
      scripts.transact,
      [
        keys.heartbeat(fence.clientId),
        keys.locks,
        keys.checkpoints,
        ...commands.flatMap((command) => command.keys),
      ],
      [
        ...fenceArgs(fence),
        String(number),
        checkpoint,
        ...commands.flatMap(({ words }) => [String(words.length), ...words]),
      ],
    )
    if (raw[0] === 'OK') return { status: 'OK', replies: raw[1] }
    if (raw[0] === 'REFUSED') return { status: 'REFUSED', index: raw[1], error: raw[2] }
    return { status: raw[0] }
  }

  deleteStream(fence: Fence, position: string): Promise<DeleteAnswer> {
    const keys = this.#keys
    return this.#run(
      scripts.deleteStream,
      [keys.heartbeat(fence.clientId), keys.locks, fence.dataStreamName],
      [...fenceArgs(fence), position],
    )
  }

  /** The checkpoint of a data stream as it is now, null if there is none. Rejects with REDIS_ERROR. */
  async checkpoint(dataStreamName: string): Promise<string | null> {
    try {
      return await this.#connection.run((redis) => redis.hget(this.#keys.checkpoints, dataStreamName))
    } catch (error) {
      throw redisError(`reading the checkpoint of ${dataStreamName}`, error)
    }
  }

  /** What lies behind the positions of these streams. */
  async lag(
    streams: readonly { readonly dataStreamName: string; readonly position: string }[],
    limit: number,
  ): Promise<StreamLag[]> {
    const answers = await this.#run<[records: number, lastId: string | null][]>(
      scripts.lag,
      streams.map(({ dataStreamName }) => dataStreamName),
      [String(limit), ...streams.map(({ position }) => afterPosition(position))],
    )
    return answers.map(([records, lastId]) => ({ records, lastId }))
  }

  /** Removes the records up to and including `position`. */
  async trim(dataStreamName: string, position: string): Promise<void> {
    await this.#connection.run((redis) => redis.xtrim(dataStreamName, 'MINID', afterPosition(position)))
  }

  /** The one place that believes the answer of a script to have the shape its header says. */
  async #run<T>(
    script: Script,
    keys: readonly (string | Buffer)[],
    args: readonly (string | Buffer)[],
  ): Promise<T> {
    return (await this.#connection.run((redis) => script.run(redis, keys, args))) as T
  }
}

function fenceArgs(fence: Fence): string[] {
  const { clientId, token, dataStreamName, idInLbs, fencingToken } = fence
  return [clientId, token, dataStreamName, idInLbs, String(fencingToken)]
}
