/** What clients tell each other on `<service>-failover`. All of it is a hint: whoever hears it looks for himself. */
import { z } from 'zod'

export type FailoverMessage =
  | { readonly type: 'dead'; readonly consumer: string }
  /** Entries that were given back and still are pending under their former owner, who is alive. */
  | { readonly type: 'released'; readonly consumer: string; readonly ids: readonly string[] }

const schema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('dead'), consumer: z.string() }),
  z.object({ type: z.literal('released'), consumer: z.string(), ids: z.array(z.string()) }),
])

export function encodeFailoverMessage(message: FailoverMessage): string {
  return JSON.stringify(message)
}

/** Null for what is none. */
export function decodeFailoverMessage(text: string): FailoverMessage | null {
  try {
    return schema.parse(JSON.parse(text))
  } catch {
    return null
  }
}
