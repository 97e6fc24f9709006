import { describe, expect, it } from 'vitest'
import { type ClientOptions, resolveOptions } from '../src/options.js'

const pod = { POD_NAME: 'pod-1' }

describe('defaults', () => {
  it('are those of the reference', () => {
    expect(resolveOptions({}, pod)).toEqual({
      clientId: 'redis-consumer-pod-1',
      heartbeatTtlMs: 2000,
      lbsIdleTimeMs: 40_000,
      lbsRecoveryCount: 1000,
      maxOwnedStreams: Number.POSITIVE_INFINITY,
      readCount: 10,
      rebalance: { settleMs: 5000, movesInFlight: 64, timeoutMs: 10_000 },
      weight: 1,
      claimMode: 'manual',
      claimStaggerMs: 150,
      maxCrashes: -1,
      crashWindowMs: 60_000,
      probeIntervalMs: 500,
      keyspaceEvents: 'auto',
      infoNumbers: 'text',
      infoSchema: null,
      notificationBufferSize: 500,
      retry: { maxRetries: -1, initialDelayMs: 100, maxDelayMs: 30_000 },
      progressTimeoutMs: Number.POSITIVE_INFINITY,
      closeTimeoutMs: 10_000,
      consumerRetentionMs: 3_600_000,
      deadLetterMaxLen: Number.POSITIVE_INFINITY,
      replicas: null,
      maxNameBytes: 65_536,
      maxInfoBytes: 1_048_576,
    })
    expect(resolveOptions(undefined, pod).clientId).toBe('redis-consumer-pod-1')
  })

  it('derive the probe interval from the TTL', () => {
    expect(resolveOptions({ heartbeatTtlMs: 1000 }, pod).probeIntervalMs).toBe(250)
  })
})

describe('the consumer id', () => {
  it('comes from the option, else POD_NAME, else POD_IP', () => {
    const both = { POD_NAME: 'name', POD_IP: '10.0.0.1' }
    expect(resolveOptions({ consumerId: 'mine' }, both).clientId).toBe('redis-consumer-mine')
    expect(resolveOptions({}, both).clientId).toBe('redis-consumer-name')
    expect(resolveOptions({}, { POD_NAME: '', POD_IP: '10.0.0.1' }).clientId).toBe('redis-consumer-10.0.0.1')
  })

  it('is missing without any of them', () => {
    for (const environment of [{}, { POD_NAME: '', POD_IP: '' }]) {
      expect(() => resolveOptions({}, environment)).toThrow(
        expect.objectContaining({ code: 'CONSUMER_ID_MISSING' }),
      )
    }
  })
})

const wrong: [option: string, options: unknown][] = [
  ['rebalance', { rebalance: 'on' }],
  ['weight', { weight: -1 }],
  ['weight', { weight: Number.NaN }],
  ['consumerId', { consumerId: '' }],
  ['consumerId', { consumerId: 'a b' }],
  ['consumerId', { consumerId: 'a\ud800' }],
  ['consumerId', { consumerId: 7 }],
  ['heartbeatTtlMs', { heartbeatTtlMs: 199 }],
  ['heartbeatTtlMs', { heartbeatTtlMs: 2000.5 }],
  ['heartbeatTtlMs', { heartbeatTtlMs: '2000' }],
  ['heartbeatTtlMs', { heartbeatTtlMs: Number.NaN }],
  ['heartbeatTtlMs', { heartbeatTtlMs: 2 ** 31 }],
  ['lbsIdleTimeMs', { lbsIdleTimeMs: 3999 }],
  ['lbsIdleTimeMs', { heartbeatTtlMs: 30_000 }],
  ['lbsRecoveryCount', { lbsRecoveryCount: 0 }],
  ['maxOwnedStreams', { maxOwnedStreams: 0 }],
  ['maxOwnedStreams', { maxOwnedStreams: -Number.POSITIVE_INFINITY }],
  ['readCount', { readCount: 0 }],
  ['claimMode', { claimMode: 'always' }],
  ['claimStaggerMs', { claimStaggerMs: -1 }],
  ['maxCrashes', { maxCrashes: -1 }],
  ['crashWindowMs', { crashWindowMs: 0 }],
  ['probeIntervalMs', { probeIntervalMs: 0 }],
  ['keyspaceEvents', { keyspaceEvents: true }],
  ['notificationBufferSize', { notificationBufferSize: 0 }],
  ['retry.maxRetries', { retry: { maxRetries: -2 } }],
  ['retry.maxDelayMs', { retry: { initialDelayMs: 100, maxDelayMs: 99 } }],
  ['retry.tries', { retry: { tries: 3 } }],
  ['retry', { retry: 3 }],
  ['closeTimeoutMs', { closeTimeoutMs: -1 }],
  ['consumerRetentionMs', { consumerRetentionMs: -1 }],
  ['deadLetterMaxLen', { deadLetterMaxLen: 0 }],
  ['replicas', { replicas: 1 }],
  ['replicas.count', { replicas: { count: 0, timeoutMs: 100 } }],
  ['replicas.timeoutMs', { replicas: { count: 1 } }],
  ['replicas.timeoutMs', { replicas: { count: 1, timeoutMs: 2001 } }],
  ['maxNameBytes', { maxNameBytes: 0 }],
  ['maxInfoBytes', { maxInfoBytes: 1.5 }],
  ['logger', { logger: 'pino' }],
  ['metrics', { metrics: () => undefined }],
  ['heartbeatTtlMS', { heartbeatTtlMS: 2000 }],
  ['options', 'fast'],
  ['options', null],
]

describe('wrong options', () => {
  it.each(wrong)('are refused by name: %s', (option, options) => {
    expect(() => resolveOptions(options as ClientOptions, pod)).toThrow(
      expect.objectContaining({ code: 'OPTION_INVALID', facts: expect.objectContaining({ option }) }),
    )
  })

  it('are refused with value and range', () => {
    expect(() => resolveOptions({ heartbeatTtlMs: 50 }, pod)).toThrow(
      'option heartbeatTtlMs must be a whole number from 200 to 2147483647, got 50',
    )
  })
})
