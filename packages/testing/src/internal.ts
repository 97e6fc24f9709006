/** The door for the tests and tools of this project. It is not for applications: what is here may change at any time. */
import { asEnv as environmentOf, findRedisServer as find } from './server/find-redis.js'
import { isPortTaken as isTaken, RedisProcess } from './server/redis-process.js'
import type { FindOptions, FoundServer, ProcessOptions, RunningServer, Server } from './server/types.js'

export type { FindOptions, FoundServer, ProcessOptions, RunningServer, Server } from './server/types.js'

/** Finds a Redis server, or fetches one. Throws an Error that names every way that would work, and what was tried. */
export const findRedisServer: (options?: FindOptions) => FoundServer = find

/** The environment that makes `findRedisServer` in a child process return what was found here. */
export const asEnv: (found: Server) => Record<string, string> = environmentOf

/** Resolves with a server that answers; rejects with what it had to say, after which nothing is left of it. */
export const startProcess: (options: ProcessOptions) => Promise<RunningServer> = (options) =>
  RedisProcess.start(options)

/** True for the error of `startProcess` if somebody else listens on the port, or on that of the cluster bus. */
export const isPortTaken: (error: unknown) => boolean = isTaken
