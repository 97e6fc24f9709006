/** How the codec refuses: one code, one sentence that says what is wrong and where. */
import { type ErrorFact, StreamClientError } from './error.js'

/** How many characters of a foreign text an error message repeats. */
const QUOTED_LENGTH = 60

/** An error with the code LBS_MESSAGE_INVALID. `problem` goes on after "LBS message invalid: ". */
export function lbsMessageError(
  problem: string,
  facts: Readonly<Record<string, ErrorFact>> = {},
  cause?: unknown,
): StreamClientError {
  return new StreamClientError('LBS_MESSAGE_INVALID', `LBS message invalid: ${problem}`, { ...facts, cause })
}

/** A foreign text cut to a length that fits into a message. */
export function quote(text: string): string {
  return text.length > QUOTED_LENGTH ? `${text.slice(0, QUOTED_LENGTH)}...` : text
}
