/** The text of whatever was thrown. */

/** Never throws: what an application throws may have no text, or a getter that throws in turn. */
export function messageOf(error: unknown): string {
  try {
    return String(error instanceof Error ? error.message : error)
  } catch {
    return 'an error that cannot be shown'
  }
}
