/**
 * What clients at rest send to a server, from `INFO commandstats`: MONITOR would cost the server as much as what is
 * measured, and more than it can send when there is much.
 *
 * The statistics count commands inside scripts too, and a script as one more. So only commands are counted that clients
 * send and no script calls while nothing happens.
 */
const SENT_AT_REST = ['eval', 'evalsha', 'xreadgroup', 'xread', 'bzpopmin', 'xclaim', 'xautoclaim'] as const
/** A heartbeat is a script that extends one key; at rest nothing else does. */
const HEARTBEAT = 'pexpire'

export interface SentCommands {
  readonly commands: number
  readonly heartbeats: number
}

/** `calls` by command, of a stretch of time in which no stream changed hands. */
export function sentAtRest(calls: Readonly<Record<string, number>>): SentCommands {
  const commands = SENT_AT_REST.reduce((sum, name) => sum + (calls[name] ?? 0), 0)
  return { commands, heartbeats: calls[HEARTBEAT] ?? 0 }
}
