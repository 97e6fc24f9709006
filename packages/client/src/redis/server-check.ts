/** What kind of server this is, and what about it could lose locks by itself. */
import { StreamClientError } from '@redis-stream-client/notifs'
import { sleep } from '../async/sleep.js'
import { backoffMs } from '../decisions/backoff.js'
import type { Connection } from './connection.js'
import { isRefusal, isReply, isTransient, messageOf, redisError } from './redis-errors.js'

const LEAST_VERSION = [6, 2] as const
/** What each kind of maxmemory-policy deletes of ours. */
const VICTIMS = {
  'allkeys-': 'locks, checkpoints and whole streams',
  'volatile-': 'heartbeat keys, which have a TTL, so that owners lose their streams,',
}
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
 * Reads the server's version and settings; what the server does not tell is left out, with a warning.
 * Rejects with REDIS_UNSUPPORTED if the server is older than 6.2, which has neither XPENDING IDLE nor exclusive ranges;
 * with REDIS_ERROR if there is no answer, without `patience` at the first try.
 */
export async function checkServer(connection: Connection, patience?: Patience): Promise<ServerWarning[]> {
  const warnings: ServerWarning[] = []
  const info = await readInfo(connection, warnings, patience)
  const version = info.get('redis_version')
  if (version !== undefined && isOlder(version)) {
    throw new StreamClientError(
      'REDIS_UNSUPPORTED',
      `the server is Redis ${version}; ${LEAST_VERSION.join('.')} or newer is needed (or any Valkey)`,
      { version },
    )
  }
  const policy = info.get('maxmemory_policy') ?? ''
  const victims = Object.entries(VICTIMS).find(([prefix]) => policy.startsWith(prefix))?.[1]
  if (victims !== undefined) {
    const message = `maxmemory-policy ${policy} lets Redis delete ${victims} when memory is short: set it to noeviction`
    warnings.push({ facts: { 'maxmemory-policy': policy }, message })
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

async function readInfo(
  connection: Connection,
  warnings: ServerWarning[],
  patience?: Patience,
): Promise<Map<string, string>> {
  try {
    const text = await persistently(() => connection.run((redis) => redis.info()), patience)
    return new Map(
      String(text)
        .split(/\r?\n/)
        .flatMap((line) => {
          const colon = line.indexOf(':')
          return colon > 0 ? [[line.slice(0, colon), line.slice(colon + 1)] as const] : []
        }),
    )
  } catch (error) {
    if (!isRefusal(error)) throw redisError('read what kind of server this is', error)
    // A permission that was left out was left out on purpose.
    if (!isReply(error, 'NOPERM')) {
      warnings.push({
        facts: { error: messageOf(error) },
        message: 'the server does not answer INFO: its version and its maxmemory-policy are not checked',
      })
    }
    return new Map()
  }
}

/** The server's `save` setting, or null where CONFIG may not be used. */
async function readSavePoints(connection: Connection, patience?: Patience): Promise<string | null> {
  try {
    const ask = (): Promise<unknown> => connection.run((redis) => redis.config('GET', 'save'))
    const reply = (await persistently(ask, patience)) as string[]
    return reply[1] ?? null
  } catch (error) {
    if (isRefusal(error)) return null
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
