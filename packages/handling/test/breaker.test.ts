import { expect, onTestFinished, test, vi } from 'vitest'
import type { AttemptOutcome } from '../src/attempt.js'
import { Breaker } from '../src/breaker.js'
import { NonRetryableError } from '../src/failures.js'

const ignore = (): void => undefined

test('a circuit breaker does not take a probe that was interrupted for a success', async () => {
  onTestFinished(() => void vi.useRealTimers())
  vi.useFakeTimers()
  const breaker = new Breaker({ failures: 1, halfOpenAfterMs: 100 }, ignore, ignore)
  const end = (outcome: AttemptOutcome) => (): Promise<AttemptOutcome> => Promise.resolve(outcome)
  const error = new Error('down')
  await breaker.run(end({ type: 'failed', error, isTimeout: false, isAbandoned: false }))
  await vi.advanceTimersByTimeAsync(150)
  expect(breaker.state).toBe('half-open')
  const interrupted = { type: 'interrupted', isAbandoned: false } as const
  expect(await breaker.run(end(interrupted))).toEqual(interrupted)
  expect(breaker.state).toBe('open')
  await vi.advanceTimersByTimeAsync(150)
  expect(await breaker.run(end({ type: 'ok' }))).toEqual({ type: 'ok' })
  expect(breaker.state).toBe('closed')
  breaker.stop()
})

test('a circuit breaker whose clock is set back rests again instead of trying on and on', async () => {
  onTestFinished(() => void vi.useRealTimers())
  vi.useFakeTimers()
  const states: string[] = []
  const breaker = new Breaker({ failures: 1, halfOpenAfterMs: 100 }, (state) => states.push(state), ignore)
  const fail = (): Promise<AttemptOutcome> =>
    Promise.resolve({ type: 'failed', error: new Error('down'), isTimeout: false, isAbandoned: false })
  await breaker.run(fail)
  expect(breaker.mayStart).toBe(false)
  vi.setSystemTime(Date.now() - 3_600_000)
  await vi.advanceTimersByTimeAsync(150)
  expect(await breaker.run(fail)).toBeNull()
  expect(breaker.mayStart).toBe(false)
  breaker.stop()
  expect(states).toEqual(['open', 'half-open', 'open'])
})

test.each([
  ['throws', (error: unknown): boolean => (error as Error).message === 'down'],
  ['answers a promise', () => Promise.reject(new Error('nobody waits for this'))],
])('a circuit breaker whose isFailure %s decides by itself, and says so', async (_, isFailure) => {
  const problems: unknown[] = []
  const breaker = new Breaker(
    { failures: 1, halfOpenAfterMs: 60_000, isFailure: isFailure as () => boolean },
    ignore,
    (problem) => problems.push(problem),
  )
  const fail = (error: unknown) => (): Promise<AttemptOutcome> =>
    Promise.resolve({ type: 'failed', error, isTimeout: false, isAbandoned: false })
  await breaker.run(fail(new NonRetryableError('not what the breaker is for')))
  expect(breaker.state).toBe('closed')
  await breaker.run(fail(undefined))
  expect(breaker.state).toBe('open')
  expect(problems.at(-1)).toBeInstanceOf(Error)
  breaker.stop()
})

test('a circuit breaker rests for the greatest duration that a timer keeps', async () => {
  const warnings: string[] = []
  const note = ({ name }: Error): void => void warnings.push(name)
  process.on('warning', note)
  onTestFinished(() => void process.off('warning', note))
  const breaker = new Breaker({ failures: 1, halfOpenAfterMs: 2 ** 31 - 1 }, ignore, ignore)
  const error = new Error('down')
  await breaker.run(() => Promise.resolve({ type: 'failed', error, isTimeout: false, isAbandoned: false }))
  await new Promise((resolve) => setImmediate(resolve))
  expect(warnings).toEqual([])
  expect(breaker.state).toBe('open')
  breaker.stop()
})
