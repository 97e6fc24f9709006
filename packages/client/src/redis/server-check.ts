/** What kind of server this is, and what about it could lose locks by itself. */
import { StreamClientError } from '@redis-stream-client/notifs'
import type { Connection } from './connection.js'
import { isReply, redisError } from './redis-errors.js'

const LEAST_VERSION = [6, 2] as const

export interface ServerWarning {
  readonly facts: Record<string, string>
  readonly message: string
}

/**
 * Reads the server's version and settings; what it may not read it leaves out.
 * Rejects with REDIS_UNSUPPORTED if the server is older than 6.2, which has neither XPENDING IDLE nor exclusive ranges;
 * with the connection's error if there is no answer.
 */
export async function checkServer(connection: Connection): Promise<ServerWarning[]> {
  const info = await readInfo(connection)
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
  if (info.get('aof_enabled') === '0' && (await readSavePoints(connection)) === '') {
    warnings.push({
      facts: { appendonly: 'no', save: '' },
      message:
        'the server keeps nothing on disk: after a restart all streams and checkpoints are gone; see appendonly',
    })
  }
  return warnings
}

async function readInfo(connection: Connection): Promise<Map<string, string>> {
  try {
    const text = await connection.run((redis) => redis.info())
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
async function readSavePoints(connection: Connection): Promise<string | null> {
  try {
    const reply = (await connection.run((redis) => redis.config('GET', 'save'))) as string[]
    return reply[1] ?? null
  } catch (error) {
    if (isReply(error)) return null
    throw redisError("read the server's settings", error)
  }
}

function isOlder(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major < LEAST_VERSION[0] || (major === LEAST_VERSION[0] && minor < LEAST_VERSION[1])
}
