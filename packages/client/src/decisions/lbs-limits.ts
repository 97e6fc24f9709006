/** Limits on the size of a message. Producers refuse a larger one, clients move it to the dead letters. */

export interface LbsLimits {
  /** Greatest length of a data stream name, in bytes of UTF-8. */
  readonly maxNameBytes: number
  /** Greatest length of Info, in bytes of its JSON without white space. */
  readonly maxInfoBytes: number
}

export const DEFAULT_LIMITS: LbsLimits = { maxNameBytes: 64 * 1024, maxInfoBytes: 1024 * 1024 }

/** Fields an LBS entry may have: Lua scripts move waiting entries, and pass on about 8,000 values at most. */
export const GREATEST_FIELD_COUNT = 1000

/** What a message needs beside its name and its Info. */
const FRAME_BYTES = 1024
/** How much longer than without white space and escapes a message may be. */
const GREATEST_SPREAD = 2

/** Why a message of this length is refused without being parsed, or null. Parsing it would only keep others waiting. */
export function lengthProblem(textBytes: number, { maxNameBytes, maxInfoBytes }: LbsLimits): string | null {
  const greatest = GREATEST_SPREAD * (maxNameBytes + maxInfoBytes) + FRAME_BYTES
  if (textBytes <= greatest) return null
  const limits = `maxNameBytes (${maxNameBytes}) and maxInfoBytes (${maxInfoBytes})`
  return `LBS message invalid: it has ${textBytes} bytes, more than the ${greatest} that go with ${limits}`
}

/** What exceeds a limit, or null. */
export function limitProblem(
  { nameBytes, infoBytes }: { readonly nameBytes: number; readonly infoBytes: number },
  { maxNameBytes, maxInfoBytes }: LbsLimits,
): string | null {
  if (nameBytes > maxNameBytes) return tooLong('DataStreamName', nameBytes, 'maxNameBytes', maxNameBytes)
  if (infoBytes > maxInfoBytes) return tooLong('Info', infoBytes, 'maxInfoBytes', maxInfoBytes)
  return null
}

function tooLong(field: string, bytes: number, option: string, greatest: number): string {
  return `LBS message invalid: ${field} has ${bytes} bytes, more than ${option} (${greatest}) allows`
}
