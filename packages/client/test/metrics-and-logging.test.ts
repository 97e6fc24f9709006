import { pino } from 'pino'
import { describe, expect, it, vi } from 'vitest'
import { defaultLogger, guardLogger } from '../src/logger.js'
import { guardRecorder } from '../src/metrics.js'

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
    guarded.probe({ consumers: 1, dead: 0, durationMs: 1 })
    guarded.disowned({ reason: 'session-lost' })
    expect(errors).toEqual([new Error('no disk')])
  })
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
