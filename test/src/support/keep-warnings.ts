/** A logger that keeps what is said at warn and above. */
import type { ClientOptions } from '@redis-stream-client/client'

export interface Warnings {
  readonly said: string[]
  readonly logger: NonNullable<ClientOptions['logger']>
}

export function keepWarnings(): Warnings {
  const said: string[] = []
  const keep = (_facts: object, message: string): void => void said.push(message)
  const logger = {
    child: () => logger,
    debug: () => undefined,
    info: () => undefined,
    warn: keep,
    error: keep,
  }
  return { said, logger: logger as unknown as Warnings['logger'] }
}
