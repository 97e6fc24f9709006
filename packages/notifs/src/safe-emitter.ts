/** An eventemitter3 emitter whose listeners cannot harm the emitting side or each other. */
import { EventEmitter } from 'eventemitter3'
import { callGuarded } from './guarded-call.js'

/**
 * Hears of a listener that threw, or returned a promise that rejected. `event` is the event it listened to.
 * What this function throws in turn is dropped.
 */
export type ListenerErrorHandler = (error: unknown, event: string) => void

/** How eventemitter3 keeps its listeners. Its `listeners()` leaves out the context they are to be called with. */
interface Registry {
  readonly _events: Readonly<Record<PropertyKey, Registration | readonly Registration[] | undefined>>
}

interface Registration {
  readonly fn: (this: unknown, ...args: unknown[]) => unknown
  readonly context: unknown
  readonly once: boolean
}

/**
 * As eventemitter3, except that `emit` never throws: each listener is called whatever the others did, and what
 * one throws or rejects with goes to {@link SafeEmitter.listenerFailed}.
 */
export class SafeEmitter<
  Events extends EventEmitter.ValidEventTypes = string | symbol,
> extends EventEmitter<Events> {
  readonly #onListenerError: ListenerErrorHandler | undefined

  constructor(options: { onListenerError?: ListenerErrorHandler | undefined } = {}) {
    super()
    this.#onListenerError = options.onListenerError
  }

  /** Calls the listeners of an event in the order they were added. True if there were any. */
  override emit<Name extends EventEmitter.EventNames<Events>>(
    event: Name,
    ...args: EventEmitter.EventArgs<Events, Name>
  ): boolean {
    const found = (this as unknown as Registry)._events[event as PropertyKey]
    if (found === undefined) return false
    if ('fn' in found) {
      this.#call(event, found, args)
      return true
    }
    // Removing a listener makes a new array, adding one grows this: what is added now hears the next event.
    const { length } = found
    for (let index = 0; index < length; index += 1) this.#call(event, found[index] as Registration, args)
    return true
  }

  /** What becomes of a listener's error: by default it goes to the option `onListenerError`. */
  protected listenerFailed(error: unknown, event: string): unknown {
    return this.#onListenerError?.(error, event)
  }

  #call(event: EventEmitter.EventNames<Events>, registration: Registration, args: unknown[]): void {
    const { fn, context, once } = registration
    if (once)
      this.removeListener(event, fn as EventEmitter.EventListener<Events, typeof event>, undefined, true)
    callGuarded(
      () => fn.apply(context, args),
      (error) => this.listenerFailed(error, String(event)),
    )
  }
}
