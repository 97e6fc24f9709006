/** Functions around each call of a handler, for what is the same for all of them: tracing, logs, a unit of work of an ORM. */

/**
 * Gets what the handler is called for, the handler's context, and `next`, which calls the middleware after it, the last one
 * the handler. What it throws counts as if the handler had thrown it. If it does not call `next`, the handler is not
 * called, and what it was to be called for is done with.
 */
export type Middleware<Subject, Context> = (
  subject: Subject,
  context: Context,
  next: () => Promise<unknown>,
) => unknown

/** Calls `handle` inside all the middleware: the first is the outermost. What it answers settles when all of them have. */
export function callThrough<Subject, Context>(
  middleware: readonly Middleware<Subject, Context>[],
  subject: Subject,
  context: Context,
  handle: () => unknown,
): unknown {
  const [outermost, ...rest] = middleware
  if (outermost === undefined) return handle()
  return callOne(outermost, subject, context, () => callThrough(rest, subject, context, handle))
}

async function callOne<Subject, Context>(
  middleware: Middleware<Subject, Context>,
  subject: Subject,
  context: Context,
  inner: () => unknown,
): Promise<void> {
  const call: { running?: Promise<unknown>; isSettled: boolean } = { isSettled: true }
  const next = (): Promise<unknown> => {
    if (call.running !== undefined) {
      return Promise.reject(new Error('a middleware has called next twice for the same call'))
    }
    call.isSettled = false
    call.running = (async () => await inner())().finally(() => {
      call.isSettled = true
    })
    return call.running
  }
  await middleware(subject, context, next)
  // A middleware that has not waited for next: the handler is still busy, and may yet fail.
  if (!call.isSettled) await call.running
}
