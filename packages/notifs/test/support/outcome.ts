/** What has become of a promise so far. */

export interface Outcome<Value> {
  state: 'pending' | 'resolved' | 'rejected'
  value?: Value
  error?: unknown
}

/** Follows a promise; the outcome is up to date after the next {@link turn}. */
export function follow<Value>(promise: Promise<Value>): Outcome<Value> {
  const outcome: Outcome<Value> = { state: 'pending' }
  promise.then(
    (value) => Object.assign(outcome, { state: 'resolved', value }),
    (error: unknown) => Object.assign(outcome, { state: 'rejected', error }),
  )
  return outcome
}

/** Resolves after every promise callback that can run now has run. */
export function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}
