/** Ids of stream entries, `<ms>-<seq>`, as positions. Both parts are 64-bit numbers, so they are compared as text. */

/** Before the first record of any stream. */
export const START = '0-0'

const ID = /^(\d{1,20})-(\d{1,20})$/

export function isPosition(text: string): boolean {
  return ID.test(text)
}

/** Negative if `a` is before `b`, 0 if they are the same, else positive. */
export function comparePositions(a: string, b: string): number {
  if (a === b) return 0
  const dash = a.indexOf('-')
  const otherDash = b.indexOf('-')
  if (dash !== otherDash) return dash - otherDash
  if (a.length === b.length) return a < b ? -1 : 1
  return compareText(a.slice(0, dash), b.slice(0, dash)) || a.length - b.length
}

/** The smallest id after this one. */
export function afterPosition(position: string): string {
  const [ms, seq] = parts(position)
  return `${ms}-${BigInt(seq) + 1n}`
}

/** When an entry with this id was added, in milliseconds of the server's clock. */
export function positionTimeMs(position: string): number {
  return Number(parts(position)[0])
}

function parts(id: string): [ms: string, seq: string] {
  const dash = id.indexOf('-')
  return [id.slice(0, dash), id.slice(dash + 1)]
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
