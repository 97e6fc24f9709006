/** Says where the Redis server is, as the launcher and the tests do, where nobody has yet. */

interface Finder {
  findRedisServer(options: { log: (line: string) => void }): unknown
  asEnv(found: unknown): NodeJS.ProcessEnv
}

export async function findRedis(): Promise<void> {
  if (process.env['REDIS_SERVER_BIN']) return
  const script = new URL('../../../scripts/find-redis.mjs', import.meta.url)
  const finder = (await import(script.href)) as Finder
  const found = finder.findRedisServer({ log: (line) => process.stderr.write(`${line}\n`) })
  Object.assign(process.env, finder.asEnv(found))
}
