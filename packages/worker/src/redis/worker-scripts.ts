/** The worker's scripts, typed. lua/*.lua say what each does and answers. All are safe to send again. */
import { type Connection, type Fence, redisError, Script } from '@redis-stream-client/client/internal'
import { afterPosition } from '@redis-stream-client/handling'
import * as lua from './lua.generated.js'
import type { StreamLook } from './stream-look.js'
import type { WorkerKeys } from './worker-keys.js'

const scripts = {
  transact: new Script(lua.transactLua),
  deleteStream: new Script(lua.deleteStreamLua),
  look: new Script(lua.lookLua),
  trim: new Script(lua.trimLua),
  forgetAnnounced: new Script(lua.forgetAnnouncedLua),
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

type RawLook = [
  length: number,
  firstId: string | null,
  lastId: string | null,
  greatestId: string,
  added: number,
  counted: number,
  isComplete: number,
]

/** What is read to count the records of one stream, and after how much no other stream is begun. */
const COUNTED_BYTES = 64 * 1024
const LOOK_BYTES = 1024 * 1024
/** Records that are trimmed in one step, and in one call. */
const TRIM_STEP = 1000
const TRIM_CALL = 10_000

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

  /** True if the record is in its data stream. Rejects with REDIS_ERROR. */
  async hasRecord(dataStreamName: string, id: string): Promise<boolean> {
    try {
      return (await this.#connection.run((redis) => redis.xrange(dataStreamName, id, id))).length > 0
    } catch (error) {
      throw redisError(`reading ${dataStreamName}`, error)
    }
  }

  /** The checkpoint of a data stream as it is now, null if there is none. Rejects with REDIS_ERROR. */
  async checkpoint(dataStreamName: string): Promise<string | null> {
    try {
      return await this.#connection.run((redis) => redis.hget(this.#keys.checkpoints, dataStreamName))
    } catch (error) {
      throw redisError(`reading the checkpoint of ${dataStreamName}`, error)
    }
  }

  /**
   * Looks at streams and at what lies after a position of each. Answers for the first of them: at least one, and as many
   * as are cheap enough for one call. Null for a stream that does not exist.
   */
  async look(
    streams: readonly { readonly dataStreamName: string; readonly position: string }[],
    countedRecords: number,
  ): Promise<(StreamLook | null)[]> {
    const answers = await this.#run<(RawLook | null)[]>(
      scripts.look,
      streams.map(({ dataStreamName }) => dataStreamName),
      [
        String(countedRecords),
        String(COUNTED_BYTES),
        String(LOOK_BYTES),
        ...streams.map(({ position }) => position),
      ],
    )
    return answers.map((answer) => (answer === null ? null : readLook(answer)))
  }

  /** Removes the records up to and including `position`, a bounded number in each call. */
  async trim(dataStreamName: string, position: string): Promise<void> {
    const args = [afterPosition(position), String(TRIM_STEP), String(TRIM_CALL)]
    let isDone: number
    do isDone = await this.#run<number>(scripts.trim, [dataStreamName], args)
    while (isDone === 0)
  }

  /** Forgets that a stream was announced, if its assignment is done. */
  async forgetAnnounced(dataStreamName: string): Promise<void> {
    const { announced, lbs, locks } = this.#keys
    await this.#run(scripts.forgetAnnounced, [lbs, locks, announced], [dataStreamName])
  }

  /** The one place that trusts the answer of a script to have the shape its header describes. */
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

function readLook([length, firstId, lastId, greatestId, added, counted, isComplete]: RawLook): StreamLook {
  return {
    length,
    firstId,
    lastId,
    greatestId,
    added: added < 0 ? null : added,
    counted,
    isComplete: isComplete === 1,
  }
}
