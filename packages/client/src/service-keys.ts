/** The names of everything a service has in Redis. All keys begin with the service's name. */
import { StreamClientError } from '@redis-stream-client/notifs'

const SERVICE_NAME = /^(?=.)[A-Za-z0-9._-]*(\{[A-Za-z0-9._-]+\})?[A-Za-z0-9._-]*$/
const GREATEST_SERVICE_NAME_LENGTH = 200

/**
 * Every key that a package of this project has in Redis, by what follows `<service>-`. Keys are named here and nowhere else,
 * because a data stream of such a name is refused: its owner would read, trim or delete the service's own keys.
 */
const SINGLE_KEYS = {
  lbs: 'input',
  locks: 'locks',
  fence: 'fence',
  checkpoints: 'checkpoints',
  dead: 'dead',
  probe: 'probe',
  hintProbe: 'probe-hint',
  members: 'members',
  protocol: 'protocol',
  level: 'level',
  housekeeping: 'housekeeping',
  plan: 'plan',
  // of the worker
  deadRecords: 'dead-records',
  announced: 'announced',
  rateLimit: 'rate-limit',
} as const

/** As SINGLE_KEYS, where there are many of a kind: a colon and a name follow. */
const KEY_FAMILIES = {
  heartbeat: 'heartbeat',
  backlog: 'backlog',
  late: 'late',
  // of the worker
  wake: 'wake',
  idempotency: 'idempotency',
  idempotencyTimes: 'idempotency-times',
} as const

const SINGLE_KEY_ENDINGS: ReadonlySet<string> = new Set(Object.values(SINGLE_KEYS))
const FAMILY_ENDINGS: ReadonlySet<string> = new Set(Object.values(KEY_FAMILIES))

/** How much of a name an error repeats. */
const SHOWN_NAME_LENGTH = 100

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
  /** Belongs to the client that looks at all consumers after a hint. */
  readonly hintProbe: string
  /** What the others need to know of each client, and its sessions. */
  readonly members: string
  readonly protocol: string
  /** How many streams each client should own, as the last probe found. */
  readonly level: string
  /** Where the background cleanup goes on: its cursors. */
  readonly housekeeping: string
  /** How streams are to be moved, and since when the clients have been the same. */
  readonly plan: string
  /** What the heartbeat key of a client begins with: its client id follows. */
  readonly heartbeatPrefix: string
  /** The channel on which clients say that entries wait for an owner. */
  readonly failoverChannel: string
  /** The keyspace channel of the heartbeat keys of a database, as a glob pattern. */
  keyspacePattern(db: number): string
  heartbeat(clientId: string): string
  backlog(dataStreamName: string): string
  /** The part of the backlog that arrived out of order. */
  late(dataStreamName: string): string
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
  const heartbeatPrefix = familyPrefix(service, 'heartbeat')
  return {
    service,
    lbs: singleKey(service, 'lbs'),
    group: `${service}-group`,
    locks: singleKey(service, 'locks'),
    fence: singleKey(service, 'fence'),
    checkpoints: singleKey(service, 'checkpoints'),
    dead: singleKey(service, 'dead'),
    probe: singleKey(service, 'probe'),
    hintProbe: singleKey(service, 'hintProbe'),
    members: singleKey(service, 'members'),
    protocol: singleKey(service, 'protocol'),
    level: singleKey(service, 'level'),
    housekeeping: singleKey(service, 'housekeeping'),
    plan: singleKey(service, 'plan'),
    heartbeatPrefix,
    failoverChannel: `${service}-failover`,
    // The name's alphabet holds no glob character: nothing is left to escape.
    keyspacePattern: (db) => `__keyspace@${db}__:${heartbeatPrefix}*`,
    heartbeat: (clientId) => heartbeatPrefix + clientId,
    backlog: (dataStreamName) => familyPrefix(service, 'backlog') + dataStreamName,
    late: (dataStreamName) => familyPrefix(service, 'late') + dataStreamName,
  }
}

/** The one key of a service that has this role. */
export function singleKey(service: string, role: keyof typeof SINGLE_KEYS): string {
  return `${service}-${SINGLE_KEYS[role]}`
}

/** What the keys of a family begin with, the colon included. */
export function familyPrefix(service: string, family: keyof typeof KEY_FAMILIES): string {
  return `${service}-${KEY_FAMILIES[family]}:`
}

/**
 * Why a data stream of this service cannot have this name, or null. Only names of keys are reserved, not everything that
 * begins with the service's name: `orders-42` is a natural stream of the service `orders`.
 */
export function reservedNameProblem(service: string, dataStreamName: string): string | null {
  if (!dataStreamName.startsWith(`${service}-`)) return null
  const ending = dataStreamName.slice(service.length + 1)
  const colon = ending.indexOf(':')
  const isReserved = colon < 0 ? SINGLE_KEY_ENDINGS.has(ending) : FAMILY_ENDINGS.has(ending.slice(0, colon))
  if (!isReserved) return null
  const isLong = dataStreamName.length > SHOWN_NAME_LENGTH
  const shown = isLong ? `${dataStreamName.slice(0, SHOWN_NAME_LENGTH)}...` : dataStreamName
  return `${shown} is a key of the service ${service} itself: give the data stream another name`
}
