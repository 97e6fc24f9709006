/** Names of consumers in the group: `<client id>:<token>`, one per session. */

export interface ConsumerName {
  readonly clientId: string
  readonly token: string
}

export function formatConsumer({ clientId, token }: ConsumerName): string {
  return `${clientId}:${token}`
}

/** The client id in a consumer's name, without the session. A name of another form is its own client id. */
export function clientIdOf(consumer: string): string {
  const colon = consumer.lastIndexOf(':')
  return colon > 0 ? consumer.slice(0, colon) : consumer
}

/** Where entries wait for anybody: given back by owners that leave or have no room, or had more than their share. */
export const POOL = 'pool:0'
export const POOL_OF_REBALANCED = 'pool:1'

/** Whether entries wait under this name for whoever takes them: no client has it, see lua/includes/waiting.lua. */
export function isPool(consumer: string): boolean {
  return consumer.startsWith('pool:') || consumer.startsWith('pool-')
}
