/** The model server as one side of the commands of a service: every command is answered at once. */
import type { Connection } from '../../src/redis/connection.js'
import type { ServiceKeys } from '../../src/service-keys.js'
import { inBuffers, ReplyError, wordsOf } from './model-redis.js'
import type { ScriptWatch, ScriptWeakness } from './model-scripts.js'
import { ModelServer } from './model-server.js'
import { Side } from './service-commands.js'

export interface ModelSideOptions {
  readonly wallMs?: () => number
  readonly watch?: ScriptWatch
  readonly weakness?: ScriptWeakness | null
  readonly afterWrite?: () => void
}

export interface ModelSide {
  readonly side: Side
  readonly server: ModelServer
}

export function modelSide(keys: ServiceKeys, options: ModelSideOptions = {}): ModelSide {
  const server = new ModelServer({
    wallMs: options.wallMs ?? Date.now,
    later: () => undefined, // nobody waits for anything here
    watch: options.watch ?? {},
    weakness: options.weakness ?? null,
    ttlShare: 1,
    knowsScripts: true,
    afterWrite: options.afterWrite ?? (() => undefined),
  })
  const redis = directRedis(server)
  const connection = { run: <T>(command: (redis: unknown) => Promise<T>) => command(redis) }
  return { side: new Side(connection as unknown as Connection, keys), server }
}

function directRedis(server: ModelServer): unknown {
  const peer = { push: () => undefined }
  const call = (name: string, args: readonly unknown[]): Promise<unknown> =>
    new Promise((resolve, reject) => {
      server.call(peer, name, wordsOf(args), (error, answer) => {
        if (error === null) resolve(answer)
        else reject(new ReplyError(error.message))
      })
    })
  const redis: Record<string, unknown> = new Proxy(
    {},
    {
      get: (_, name) => {
        if (name === 'pipeline') return pipeline
        if (name !== 'callBuffer') return (...args: unknown[]) => call(String(name), args)
        return (command: string, ...args: unknown[]) => call(command, args).then(inBuffers)
      },
    },
  )
  const pipeline = () => {
    const calls: Promise<unknown>[] = []
    const made = {
      xrangeBuffer: (...args: unknown[]) => {
        calls.push(call('xrange', args).then(inBuffers))
        return made
      },
      exec: async () => (await Promise.all(calls)).map((answer) => [null, answer]),
    }
    return made
  }
  return redis
}
