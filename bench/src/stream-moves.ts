/** What became of the streams of a service: who owned how many when, how often each moved, and how long it had no owner. */
import type { StreamEvent } from './host-protocol.js'
import { spread } from './statistics.js'

export interface Moves {
  /** How often streams have gone from one member to another. */
  readonly total: number
  /** The same for each stream that has moved. */
  readonly ofEach: ReadonlyMap<string, number>
  /** Of each move: from when its former owner stopped working on it until the next owner had it. */
  readonly ownerlessMs: readonly number[]
  /** When the last stream had moved; NaN if none has. */
  readonly lastAtMs: number
}

/** What happened from a moment on. Events may come in any order. */
export function movesSince(events: readonly StreamEvent[], sinceMs: number): Moves {
  const owners = new Map<string, string>()
  const leftAtMs = new Map<string, number>()
  const ofEach = new Map<string, number>()
  const ownerlessMs: number[] = []
  let total = 0
  let lastAtMs = Number.NaN
  for (const { atMs, kind, member, stream } of inOrder(events)) {
    if (kind === 'left') {
      leftAtMs.set(stream, atMs)
      continue
    }
    const before = owners.get(stream)
    owners.set(stream, member)
    if (before === undefined || before === member || atMs < sinceMs) continue
    total++
    lastAtMs = atMs
    ofEach.set(stream, (ofEach.get(stream) ?? 0) + 1)
    const left = leftAtMs.get(stream)
    if (left !== undefined) ownerlessMs.push(atMs - left)
    leftAtMs.delete(stream)
  }
  return { total, ofEach, ownerlessMs, lastAtMs }
}

/** How many streams each of these members owns after all that has happened. */
export function sizesOf(events: readonly StreamEvent[], members: readonly string[]): number[] {
  const sizes = new Map(members.map((member) => [member, 0]))
  for (const member of ownersAfter(events).values()) {
    const size = sizes.get(member)
    if (size !== undefined) sizes.set(member, size + 1)
  }
  return [...sizes.values()]
}

/**
 * From which moment on no member had more than `greatest` times the mean; NaN if the last event leaves one that has.
 * A stream on its way counts for the member it comes from.
 */
export function evenSince(
  events: readonly StreamEvent[],
  members: readonly string[],
  greatest: number,
): number {
  const sizes = new Map(members.map((member) => [member, 0]))
  const owners = new Map<string, string>()
  let evenAtMs = Number.NaN
  for (const { atMs, kind, member, stream } of inOrder(events)) {
    if (kind !== 'taken') continue
    count(owners.get(stream), -1)
    count(member, 1)
    owners.set(stream, member)
    const isEven = spread([...sizes.values()]) <= greatest
    if (!isEven) evenAtMs = Number.NaN
    else if (Number.isNaN(evenAtMs)) evenAtMs = atMs
  }
  return evenAtMs

  function count(member: string | undefined, by: number): void {
    const size = member === undefined ? undefined : sizes.get(member)
    if (member !== undefined && size !== undefined) sizes.set(member, size + by)
  }
}

function ownersAfter(events: readonly StreamEvent[]): ReadonlyMap<string, string> {
  const owners = new Map<string, string>()
  for (const { kind, member, stream } of inOrder(events)) if (kind === 'taken') owners.set(stream, member)
  return owners
}

function inOrder(events: readonly StreamEvent[]): StreamEvent[] {
  return [...events].sort((a, b) => a.atMs - b.atMs)
}
