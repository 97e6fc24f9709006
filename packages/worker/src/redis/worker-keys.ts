/** The names of what the worker keeps in Redis beside the client's keys. */
import {
  familyPrefix,
  resolveServiceKeys,
  type ServiceKeys,
  singleKey,
} from '@redis-stream-client/client/internal'

export interface WorkerKeys extends ServiceKeys {
  /** Stream of the records that could not be handled. */
  readonly deadRecords: string
  /** Consumer group on it: who has been told of which letter. */
  readonly deadRecordsGroup: string
  /** Hash: data stream name to the LBS id under which a producer announced it. */
  readonly announced: string
  /** Hash: the permits of the service's rate limit. */
  readonly rateLimit: string
  /** Stream that ends a blocking read of the worker's connection number `index`. */
  wake(clientId: string, index: number): string
  /** Hash: idempotency key to record id and time. */
  idempotency(dataStreamName: string): string
  /** Sorted set: idempotency keys by the time they were used. */
  idempotencyTimes(dataStreamName: string): string
}

/** @throws StreamClientError SERVICE_NAME_INVALID. */
export function resolveWorkerKeys(service: string, where: { onCluster: boolean }): WorkerKeys {
  return {
    ...resolveServiceKeys(service, where),
    deadRecords: singleKey(service, 'deadRecords'),
    deadRecordsGroup: `${service}-dead-records-group`,
    announced: singleKey(service, 'announced'),
    rateLimit: singleKey(service, 'rateLimit'),
    wake: (clientId, index) => `${familyPrefix(service, 'wake')}${clientId}:${index}`,
    idempotency: (dataStreamName) => familyPrefix(service, 'idempotency') + dataStreamName,
    idempotencyTimes: (dataStreamName) => familyPrefix(service, 'idempotencyTimes') + dataStreamName,
  }
}

/** On Redis Cluster several keys fit into one command only if they share their hash tag. */
export function sharesHashTag(a: string, b: string): boolean {
  const tag = hashTag(a)
  return tag !== null && tag === hashTag(b)
}

function hashTag(key: string): string | null {
  const open = key.indexOf('{')
  const close = key.indexOf('}', open + 1)
  return open >= 0 && close > open + 1 ? key.slice(open + 1, close) : null
}
