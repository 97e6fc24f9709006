/**
 * The setting of a server that says which keyspace events it publishes. It is shared with everybody else on the server:
 * flags are added and none is removed.
 *
 * Redis has no compare-and-set for settings. So the flags are read once more right before they are written, in the same
 * batch: flags that somebody else has added since the first read are seen there, and written again together with ours.
 * A gap remains: such a flag is off for one round trip, and a client that dies right then does not put it back.
 */
import type { RedisLike } from './duplicate.js'

export const FLAGS = 'notify-keyspace-events'
/** K: keyspace channels; x: expired events. https://redis.io/docs/latest/develop/pubsub/keyspace-notifications/ */
const NEEDED = 'Kx'
/** `A` stands for these classes. */
const ALL = 'A'
const CLASSES_OF_ALL = 'g$lshzxetd'
const GREATEST_TRIES = 5

/** Adds the flags that are missing. Rejects with what the server says where it does not let its settings be used. */
export async function addKeyspaceFlags(node: RedisLike): Promise<void> {
  let flags = flagsOf(await node.config('GET', FLAGS))
  if (flags === undefined) return // a server that hides the setting: it must not be overwritten unseen
  let wanted = withFlags(flags, NEEDED)
  for (let tries = 0; wanted !== flags && tries < GREATEST_TRIES; tries++) {
    flags = wanted
    wanted = withFlags(flags, await write(node, flags))
  }
}

/** Writes the setting and answers what it has overwritten. */
async function write(node: RedisLike, flags: string): Promise<string> {
  const results = await node.pipeline().config('GET', FLAGS).config('SET', FLAGS, flags).exec()
  for (const [error] of results ?? []) if (error) throw error
  return flagsOf(results?.[0]?.[1]) ?? ''
}

function flagsOf(answer: unknown): string | undefined {
  return (answer as [name?: string, value?: string])[1]
}

/** `flags` and those of `more` that are missing. */
function withFlags(flags: string, more: string): string {
  const isThere = (flag: string): boolean =>
    flags.includes(flag) || (flags.includes(ALL) && CLASSES_OF_ALL.includes(flag))
  return (
    flags +
    more
      .split('')
      .filter((flag) => !isThere(flag))
      .join('')
  )
}
