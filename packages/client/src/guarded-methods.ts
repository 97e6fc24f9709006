/** Wraps an object of optional methods that the application gave, so that its errors do no harm. */
import { callGuarded } from '@redis-stream-client/notifs/internal'

/** The same methods. Each exists, and never throws. */
export type Guarded<Methods> = { readonly [Name in keyof Methods]-?: NonNullable<Methods[Name]> }

/**
 * A missing method does nothing. One that throws, or answers a promise that rejects, is reported to `onError` and
 * called again the next time.
 */
export function guardMethods<Methods extends object>(
  names: readonly (keyof Methods)[],
  methods: Methods | undefined,
  onError: (error: unknown) => void,
): Guarded<Methods> {
  const entries = names.map((name) => {
    const call = (event: unknown): void => {
      callGuarded(() => {
        const method = methods?.[name] as ((event: unknown) => unknown) | undefined
        return method?.call(methods, event)
      }, onError)
    }
    return [name, call]
  })
  return Object.fromEntries(entries) as Guarded<Methods>
}
