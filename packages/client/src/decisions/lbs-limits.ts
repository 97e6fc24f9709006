/** How large what a producer sends may be: producers refuse more, clients put it with the dead letters. */
import type { LbsMessage } from '@redis-stream-client/notifs'

export interface LbsLimits {
  /** Greatest length of a data stream name, in bytes of UTF-8. */
  readonly maxNameBytes: number
  /** Greatest length of Info, in bytes of its JSON without white space. */
  readonly maxInfoBytes: number
}

export const DEFAULT_LIMITS: LbsLimits = { maxNameBytes: 64 * 1024, maxInfoBytes: 1024 * 1024 }

/** Fields an LBS entry may have: Lua scripts move waiting entries, and pass on about 8,000 values at most. */
export const GREATEST_FIELD_COUNT = 1000

/** What exceeds a limit, or null. `textBytes`, the length of the whole message, saves measuring what is small. */
export function limitProblem(
  { dataStreamName, info }: LbsMessage,
  { maxNameBytes, maxInfoBytes }: LbsLimits,
  textBytes: number,
): string | null {
  if (textBytes > maxNameBytes) {
    const nameBytes = Buffer.byteLength(dataStreamName)
    if (nameBytes > maxNameBytes) return tooLong('DataStreamName', nameBytes, 'maxNameBytes', maxNameBytes)
  }
  if (textBytes > maxInfoBytes && info !== undefined) {
    const infoBytes = Buffer.byteLength(JSON.stringify(info))
    if (infoBytes > maxInfoBytes) return tooLong('Info', infoBytes, 'maxInfoBytes', maxInfoBytes)
  }
  return null
}

function tooLong(field: string, bytes: number, option: string, greatest: number): string {
  return `LBS message invalid: ${field} has ${bytes} bytes, more than ${option} (${greatest}) allows`
}
