/** What clients tell each other on `<service>-failover`. All of it is a hint: whoever hears it asks a script. */
import { z } from 'zod'

export type FailoverMessage = WaitingMessage | PlanMessage

/** There is a plan that says which clients give how many streams: see rebalance-plan.ts. */
export interface PlanMessage {
  readonly type: 'plan'
}

/** Entries wait for an owner under a consumer that is dead, or in the pool. */
export interface WaitingMessage {
  readonly type: 'waiting'
  readonly consumer: string
  /** How many streams each client is to have, see water-level.ts; null where that is not known, or without a bound. */
  readonly level: number | null
  /** Up to how many streams a client takes of what waits now; absent where nobody has looked at what each one owns. */
  readonly fill?: number | null | undefined
  /** How many entries wait under this consumer, and how many under all; absent where nobody has looked. */
  readonly pending?: number | undefined
  readonly waiting?: number | undefined
  /** How many clients there are to take them; null where that is not known. */
  readonly living: number | null
  /** Clients that lack much at this level come first, see water-level.ts; null: all come at once. */
  readonly firstLevel?: number | null | undefined
}

const schema = z.discriminatedUnion('type', [
  z.object({ type: z.literal('plan') }),
  z.object({
    type: z.literal('waiting'),
    consumer: z.string(),
    level: z.number().nonnegative().nullable(),
    fill: z.number().nonnegative().nullable().optional(),
    pending: z.number().positive().optional(),
    waiting: z.number().positive().optional(),
    living: z.number().nonnegative().nullable(),
    firstLevel: z.number().nonnegative().nullable().optional(),
  }),
])

export function encodeFailoverMessage(message: FailoverMessage): string {
  return JSON.stringify(message)
}

/** Null if the text is no such message. */
export function decodeFailoverMessage(text: string): FailoverMessage | null {
  try {
    return schema.parse(JSON.parse(text))
  } catch {
    return null
  }
}
