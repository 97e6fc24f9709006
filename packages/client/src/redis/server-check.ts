/** What kind of server this is, and what about it could lose locks by itself. */
import { StreamClientError } from '@redis-stream-client/notifs'
import { sleep } from '../async/sleep.js'
import { backoffMs } from '../decisions/backoff.js'
import type { Connection } from './connection.js'
import { isReply, isTransient, redisError } from './redis-errors.js'

const LEAST_VERSION = [6, 2] as const
const FIRST_PAUSE_MS = 20
const GREATEST_PAUSE_MS = 200

/** How long to go on asking when a connection breaks, which may happen at the start as at any other time. */
export interface Patience {
  readonly forMs: number
  readonly signal: AbortSignal
}

export interface ServerWarning {
  readonly facts: Record<string, string>
  readonly message: string
}

/**
 * Reads the server's version and settings; what it may not read it leaves out.
 * Rejects with REDIS_UNSUPPORTED if the server is older than 6.2, which has neither XPENDING IDLE nor exclusive ranges;
 * with REDIS_ERROR if there is no answer, without `patience` at the first try.
 */
export async function checkServer(connection: Connection, patience?: Patience): Promise<ServerWarning[]> {
  const info = await readInfo(connection, patience)
  const version = info.get('redis_version')
  if (version !== undefined && isOlder(version)) {
    throw new StreamClientError(
      'REDIS_UNSUPPORTED',
      `the server is Redis ${version}; ${LEAST_VERSION.join('.')} or newer is needed (or any Valkey)`,
      { version },
    )
  }
  const warnings: ServerWarning[] = []
  const policy = info.get('maxmemory_policy')
  if (policy?.startsWith('allkeys-')) {
    warnings.push({
      facts: { 'maxmemory-policy': policy },
      message:
        `maxmemory-policy ${policy} lets Redis delete locks, checkpoints and whole streams when memory is short: ` +
        'set it to noeviction',
    })
  }
  if (info.get('aof_enabled') === '0' && (await readSavePoints(connection, patience)) === '') {
    warnings.push({
      facts: { appendonly: 'no', save: '' },
      message:
        'the server keeps nothing on disk: after a restart all streams and checkpoints are gone; see appendonly',
    })
  }
  return warnings
}

async function readInfo(connection: Connection, patience?: Patience): Promise<Map<string, string>> {
  try {
    const text = await persistently(() => connection.run((redis) => redis.info()), patience)
    return new Map(
      text.split(/\r?\n/).flatMap((line) => {
        const colon = line.indexOf(':')
        return colon > 0 ? [[line.slice(0, colon), line.slice(colon + 1)] as const] : []
      }),
    )
  } catch (error) {
    if (isReply(error, 'NOPERM')) return new Map()
    throw redisError('read what kind of server this is', error)
  }
}

/** The server's `save` setting, or null where CONFIG may not be used. */
async function readSavePoints(connection: Connection, patience?: Patience): Promise<string | null> {
  try {
    const ask = (): Promise<unknown> => connection.run((redis) => redis.config('GET', 'save'))
    const reply = (await persistently(ask, patience)) as string[]
    return reply[1] ?? null
  } catch (error) {
    if (isReply(error)) return null
    throw redisError("read the server's settings", error)
  }
}

async function persistently<T>(ask: () => Promise<T>, patience: Patience | undefined): Promise<T> {
  const untilMs = performance.now() + (patience?.forMs ?? 0)
  for (let tries = 1; ; tries++) {
    try {
      return await ask()
    } catch (error) {
      const isOver = patience === undefined || patience.signal.aborted || performance.now() >= untilMs
      if (isOver || !isTransient(error)) throw error
      await sleep(backoffMs(tries, FIRST_PAUSE_MS, GREATEST_PAUSE_MS), patience.signal)
    }
  }
}

function isOlder(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major < LEAST_VERSION[0] || (major === LEAST_VERSION[0] && minor < LEAST_VERSION[1])
}
