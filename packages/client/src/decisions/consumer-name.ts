/** Names of consumers in the group: `<client id>:<token>`, one per session. */

export interface ConsumerName {
  readonly clientId: string
  readonly token: string
}

export function formatConsumer({ clientId, token }: ConsumerName): string {
  return `${clientId}:${token}`
}

/** The client id in a consumer's name, without the session. A name of another make is its own client id. */
export function clientIdOf(consumer: string): string {
  const colon = consumer.lastIndexOf(':')
  return colon > 0 ? consumer.slice(0, colon) : consumer
}
