/** The names of everything a service has in Redis. All keys begin with the service's name. */
import { StreamClientError } from '@redis-stream-client/notifs'

const SERVICE_NAME = /^(?=.)[A-Za-z0-9._-]*(\{[A-Za-z0-9._-]+\})?[A-Za-z0-9._-]*$/
const GREATEST_SERVICE_NAME_LENGTH = 200

/** The field of an LBS entry that carries the message. */
export const LBS_FIELD = 'lbs-input'

export interface ServiceKeys {
  readonly service: string
  readonly lbs: string
  readonly group: string
  readonly locks: string
  readonly fence: string
  readonly checkpoints: string
  readonly dead: string
  readonly probe: string
  /** What the heartbeat key of a client begins with: its client id follows. */
  readonly heartbeatPrefix: string
  /** The channel on which dead consumers and released streams are published. */
  readonly failoverChannel: string
  /** The keyspace channel of the heartbeat keys of a database, as a glob pattern. */
  keyspacePattern(db: number): string
  heartbeat(clientId: string): string
  backlog(dataStreamName: string): string
}

/**
 * The keys of a service.
 * @throws StreamClientError SERVICE_NAME_INVALID: other characters than letters, digits, `.`, `_`, `-`, more than one
 *   hash tag, or none where `onCluster` needs one (all keys of a service must lie in one slot).
 */
export function resolveServiceKeys(service: string, { onCluster }: { onCluster: boolean }): ServiceKeys {
  if (
    typeof service !== 'string' ||
    !SERVICE_NAME.test(service) ||
    service.length > GREATEST_SERVICE_NAME_LENGTH
  ) {
    throw new StreamClientError(
      'SERVICE_NAME_INVALID',
      `service name ${JSON.stringify(service)} is not made of 1 to ${GREATEST_SERVICE_NAME_LENGTH} letters, digits, ` +
        `'.', '_', '-' and at most one hash tag such as {orders}`,
      { service: String(service) },
    )
  }
  if (onCluster && !service.includes('{')) {
    throw new StreamClientError(
      'SERVICE_NAME_INVALID',
      `service name ${service} has no hash tag: on Redis Cluster all its keys must share a slot, call it {${service}}`,
      { service },
    )
  }
  return {
    service,
    lbs: `${service}-input`,
    group: `${service}-group`,
    locks: `${service}-locks`,
    fence: `${service}-fence`,
    checkpoints: `${service}-checkpoints`,
    dead: `${service}-dead`,
    probe: `${service}-probe`,
    heartbeatPrefix: `${service}-heartbeat:`,
    failoverChannel: `${service}-failover`,
    // The name's alphabet holds no glob character: nothing is left to escape.
    keyspacePattern: (db) => `__keyspace@${db}__:${service}-heartbeat:*`,
    heartbeat: (clientId) => `${service}-heartbeat:${clientId}`,
    backlog: (dataStreamName) => `${service}-backlog:${dataStreamName}`,
  }
}
