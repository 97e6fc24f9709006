/** Replays many dead letters: those that were there at the beginning, one after the other, in their order. */
import { comparePositions, type DeadRecord, type DeadRecords } from '@redis-stream-client/handling'
import { WorkerError } from '../contract/worker-error.js'

export interface ReplayManyOptions {
  /** Only letters of this data stream. */
  readonly dataStreamName?: string | undefined
  /** Only letters whose error contains this text. */
  readonly error?: string | undefined
  /** At most so many are replayed. Default: no limit. */
  readonly count?: number | undefined
  /** Only letters after this one: `after` of an earlier call. */
  readonly after?: string | undefined
  /** When it aborts, the letter under way is the last one. */
  readonly signal?: AbortSignal | undefined
  /** Called after every page of at most 20 letters. A promise is waited for, and a rejection ends the replay. */
  readonly onProgress?: ((progress: ReplayProgress) => unknown) | undefined
}

export interface ReplayProgress {
  /** Letters that were looked at. */
  readonly looked: number
  readonly replayed: number
  /** Letters that cannot be replayed, because their data stream has the name of a key of the service. */
  readonly refused: number
  /** The last letter that was looked at; null if there was none. */
  readonly after: string | null
}

const PAGE = 20

/** Resolves when no letter is left, `count` are replayed or the signal aborts. Rejects as `list` and `replay` do. */
export async function replayMany(
  records: DeadRecords,
  replay: (id: string) => Promise<unknown>,
  { after, count = Infinity, onProgress, signal, ...wanted }: ReplayManyOptions,
): Promise<ReplayProgress> {
  const last = await records.lastId()
  let progress: ReplayProgress = { looked: 0, replayed: 0, refused: 0, after: after ?? null }
  for (let isOver = last === null; !isOver; ) {
    const letters = await records.list({ count: PAGE, after: progress.after ?? undefined })
    isOver = letters.length === 0
    for (const letter of letters) {
      // What fails again comes behind the last letter: it must not be replayed for ever.
      isOver =
        signal?.aborted === true ||
        progress.replayed >= count ||
        comparePositions(letter.id, last as string) > 0
      if (isOver) break
      const outcome = matches(letter, wanted) ? await tryReplay(() => replay(letter.id)) : null
      progress = {
        looked: progress.looked + 1,
        replayed: progress.replayed + (outcome === 'replayed' ? 1 : 0),
        refused: progress.refused + (outcome === 'refused' ? 1 : 0),
        after: letter.id,
      }
    }
    await onProgress?.(progress)
  }
  return progress
}

function matches(letter: DeadRecord, { dataStreamName, error }: ReplayManyOptions): boolean {
  if (dataStreamName !== undefined && letter.dataStreamName !== dataStreamName) return false
  return error === undefined || letter.error.includes(error)
}

/** Null if somebody else has replayed or dropped it meanwhile. */
async function tryReplay(replay: () => Promise<unknown>): Promise<'replayed' | 'refused' | null> {
  try {
    await replay()
    return 'replayed'
  } catch (error) {
    if (!(error instanceof WorkerError)) throw error
    return error.code === 'RECORD_INVALID' ? 'refused' : null
  }
}
