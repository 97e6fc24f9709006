import { type Logger, pino } from 'pino'
import { describe, expect, it, vi } from 'vitest'
import { logFailures } from '../src/failure-log.js'
import { defaultLogger, guardLogger } from '../src/logger.js'
import { guardRecorder } from '../src/metrics.js'
import { silentLogger } from './support/silent-logger.js'

describe('a recorder', () => {
  it('is called as a method of its object, with one object of plain values', () => {
    const recorder = {
      seen: [] as unknown[],
      deadLettered(event: unknown) {
        this.seen.push(event)
      },
    }
    guardRecorder(recorder, () => undefined).deadLettered({ reason: 'malformed' })
    expect(recorder.seen).toEqual([{ reason: 'malformed' }])
  })

  it('may leave methods out, and one that throws is reported', () => {
    const errors: unknown[] = []
    const guarded = guardRecorder(
      {
        disowned() {
          throw new Error('no disk')
        },
      },
      (error) => errors.push(error),
    )
    guarded.probe({ consumers: 1, dead: 0, waiting: 0, durationMs: 1 })
    guarded.disowned({ reason: 'session-lost' })
    expect(errors).toEqual([new Error('no disk')])
  })

  it('whose methods are getters that throw, or async and reject, harms nobody', async () => {
    const errors: unknown[] = []
    const guarded = guardRecorder(
      {
        get probe(): () => void {
          throw new Error('no such method today')
        },
        heartbeat: (() => Promise.reject(new Error('statsd is away'))) as () => void,
      },
      (error) => errors.push(error),
    )
    guarded.probe({ consumers: 1, dead: 0, waiting: 0, durationMs: 1 })
    guarded.heartbeat({ outcome: 'extended', durationMs: 1, trustLeftMs: 1 })
    await new Promise((resolve) => setImmediate(resolve))
    expect(errors).toEqual([new Error('no such method today'), new Error('statsd is away')])
  })
})

it('a recorder that fails with every event is logged at once, then every ten seconds with a count', () => {
  vi.useFakeTimers({ toFake: ['performance'] })
  const lines: object[] = []
  const logger = { ...silentLogger, error: (facts: object, text: string) => lines.push({ ...facts, text }) }
  const { listenerFailed, recorderFailed } = logFailures(() => logger)
  for (let second = 0; second < 11; second++) {
    recorderFailed(new Error('statsd is away'))
    vi.advanceTimersByTime(1000)
  }
  listenerFailed(Object.create(null), 'session')
  vi.useRealTimers()
  const recorder = { text: 'the metrics recorder has failed', error: 'statsd is away' }
  expect(lines).toEqual([
    recorder,
    { ...recorder, unwritten: 9 },
    { text: 'a listener has failed', event: 'session', error: 'an error that cannot be shown' },
  ])
})

describe('a logger', () => {
  it('that throws harms nobody', () => {
    const broken = new Proxy(pino({ level: 'silent' }), {
      get: () => () => {
        throw new Error('no disk')
      },
    })
    const logger = guardLogger(broken, { service: 's' })
    for (const level of ['debug', 'info', 'warn', 'error'] as const) logger[level]({}, 'text')
  })

  it('whose methods are async and reject harms nobody', async () => {
    const unhandled: unknown[] = []
    const note = (error: unknown): void => void unhandled.push(error)
    process.on('unhandledRejection', note)
    const reject = (): Promise<never> => Promise.reject(new Error('no disk'))
    const broken = { child: reject, debug: reject, info: reject, warn: reject, error: reject }
    const logger = guardLogger(broken as unknown as Logger, { service: 's' })
    for (const level of ['debug', 'info', 'warn', 'error'] as const) logger[level]({}, 'text')
    for (let turns = 0; turns < 3; turns++) await new Promise((resolve) => setImmediate(resolve))
    process.off('unhandledRejection', note)
    expect(unhandled).toEqual([])
  })

  it('that only promises a child writes without one', () => {
    const lines: string[] = []
    const logger = {
      child: () => Promise.resolve({}),
      warn: (_: object, message: string) => lines.push(message),
    }
    guardLogger(logger as unknown as Logger, { service: 's' }).warn({}, 'text')
    expect(lines).toEqual(['text'])
  })

  it('gets the level of LOG_LEVEL, else warn', () => {
    vi.stubEnv('LOG_LEVEL', '')
    expect(defaultLogger().level).toBe('warn')
    vi.stubEnv('LOG_LEVEL', 'debug')
    expect(defaultLogger().level).toBe('debug')
    vi.stubEnv('LOG_LEVEL', 'silent')
    expect(defaultLogger().level).toBe('silent')
    vi.stubEnv('LOG_LEVEL', 'loud')
    expect(defaultLogger().level).toBe('warn')
    vi.unstubAllEnvs()
  })

  it('writes facts and text with the bindings', () => {
    const lines: string[] = []
    const logger = guardLogger(pino({ level: 'debug' }, { write: (line: string) => lines.push(line) }), {
      service: 's',
    })
    logger.warn({ n: 1 }, 'text')
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({ service: 's', n: 1, msg: 'text', level: 40 })
  })
})
