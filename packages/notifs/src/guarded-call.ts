/** Calling code of the application. Whatever it throws, and whatever its promises reject with, harms nobody here. */

/**
 * Calls a function whose result nobody needs. What it throws, or what the promise or thenable it answers rejects with,
 * goes to `onError`. What `onError` throws or rejects with in turn is dropped: there is nobody left to tell.
 */
export function callGuarded(call: () => unknown, onError: (error: unknown) => unknown): void {
  const report = (error: unknown): void => {
    try {
      catchRejection(onError(error), ignore)
    } catch {
      // See above.
    }
  }
  try {
    catchRejection(call(), report)
  } catch (error) {
    report(error)
  }
}

/**
 * Hands the rejection of a promise or thenable to `onRejected`, which must not throw; answers whether it was one.
 * Throws what its `then` throws.
 */
export function catchRejection(value: unknown, onRejected: (error: unknown) => void): boolean {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return false
  const { then } = value as { readonly then?: unknown }
  if (typeof then !== 'function') return false
  const next: unknown = then.call(value, ignore, onRejected)
  // A `then` that is itself async may reject without having called anybody.
  if (next instanceof Promise) next.catch(onRejected)
  return true
}

function ignore(): void {}
