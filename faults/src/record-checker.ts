/**
 * Decides whether the worker keeps its promises about records, from what handlers have reported and what Redis holds in
 * the end.
 *
 * 1. Order: under one fence the handler gets one record after the other. The same record comes again only if its attempt
 *    has failed.
 * 2. None is passed over: when an owner begins with a record, all before it have been handled, or went to the dead letters.
 *    A worker may be killed between a transaction and its report: then the record has begun, and 4 checks its effect.
 * 3. Few come twice: an owner gets at most `commitEvery` records that an earlier owner had handled, and none that was
 *    handled in a transaction.
 * 4. Effects are there once: what the transactions of a stream have left is each of its records once, in their order.
 * 5. Each record that is doomed is once with the dead letters, and no other.
 * 6. The position in Redis never goes back, while the data stream is there.
 *
 * Fences order the owners of a stream, so nothing here depends on a clock. A former owner that hangs may report to the
 * ledger late, under its old fence. Where Redis itself loses what it has acknowledged, only 1 is checked.
 */
import type { AcceptedCheckpoint } from './commit-watch.js'
import type { Handling } from './handlings.js'
import { COMMIT_EVERY, fateOf, hasEffects } from './record-rules.js'
import { type Violation, violation } from './violation.js'

export interface StreamEvidence {
  readonly name: string
  /** Records 1 to this number were added, each answered. */
  readonly added: number
  /** In the order in which the ledger was told. */
  readonly handlings: readonly Handling[]
  /** Numbers of records, as transactions have left them; null where that is not known yet, or the stream has none. */
  readonly effects: readonly number[] | null
  /** Numbers of the records with the dead letters; null where that is not known yet. */
  readonly dead: readonly number[] | null
}

/** One owner of a stream. */
interface Tenure {
  readonly fence: number
  readonly handlings: readonly Handling[]
}

export function findRecordViolations(stream: StreamEvidence, keepsAcknowledged: boolean): Violation[] {
  const tenures = tenuresOf(stream.handlings)
  const violations = tenures.flatMap((tenure) => findDisorder(stream.name, tenure, keepsAcknowledged))
  if (!keepsAcknowledged) return violations
  const ended = new Set<number>()
  const left = new Set<number>()
  for (const tenure of tenures) {
    violations.push(...findPassedOver(stream.name, tenure, left), ...findRepeated(stream.name, tenure, ended))
    for (const handling of tenure.handlings) {
      if (isEnd(handling)) ended.add(handling.n)
      if (isEnd(handling) || hasEffects(stream.name)) left.add(handling.n)
    }
  }
  return [...violations, ...findWrongEffects(stream), ...findWrongLetters(stream)]
}

/** Positions that Redis accepted after a later one. */
export function findFallenPositions(accepted: readonly AcceptedCheckpoint[]): Violation[] {
  const violations: Violation[] = []
  const greatest = new Map<string, readonly [bigint, bigint]>()
  for (const { checkpoint, stream } of accepted) {
    if (checkpoint === null) {
      greatest.delete(stream) // with the data stream: whatever comes begins anew
      continue
    }
    const { id } = JSON.parse(checkpoint) as { id: string }
    const [ms = '0', seq = '0'] = id.split('-')
    const position = [BigInt(ms), BigInt(seq)] as const
    const last = greatest.get(stream)
    const isBack =
      last !== undefined && (position[0] < last[0] || (position[0] === last[0] && position[1] < last[1]))
    if (isBack) violations.push(violation('position back', `${stream}: ${id} after ${last.join('-')}`))
    else greatest.set(stream, position)
  }
  return violations
}

function tenuresOf(handlings: readonly Handling[]): Tenure[] {
  const byFence = new Map<number, Handling[]>()
  for (const handling of handlings) {
    const those = byFence.get(handling.fence)
    if (those === undefined) byFence.set(handling.fence, [handling])
    else those.push(handling)
  }
  return [...byFence]
    .map(([fence, those]) => ({ fence, handlings: those }))
    .sort((one, other) => one.fence - other.fence)
}

function findDisorder(name: string, { fence, handlings }: Tenure, keepsAcknowledged: boolean): Violation[] {
  const violations: Violation[] = []
  let current: { readonly n: number; hasEnded: boolean } | undefined
  for (const { n, step, worker } of handlings) {
    const where = `${name}, ${worker} under ${fence}: record ${n} has ${step}`
    if (step !== 'begun') {
      if (current?.n !== n) violations.push(violation('disorder', `${where} while it was not its turn`))
      else current.hasEnded = step !== 'failed'
      continue
    }
    if (current !== undefined) {
      const expected = current.hasEnded ? current.n + 1 : current.n
      // Redis may have lost some in between.
      const isNext = n === expected || (!keepsAcknowledged && n >= current.n)
      if (!isNext) violations.push(violation('disorder', `${where} where ${expected} was the next`))
    }
    current = { n, hasEnded: false }
  }
  return violations
}

/** `left`: what an owner may leave behind. */
function findPassedOver(name: string, { fence, handlings }: Tenure, left: ReadonlySet<number>): Violation[] {
  const [first] = handlings
  if (first === undefined) return []
  for (let n = 1; n < first.n; n++) {
    if (left.has(n)) continue
    const text = `${name}: ${first.worker} began with record ${first.n} under ${fence}, and ${n} was not handled`
    return [violation('passed over', text)]
  }
  return []
}

function findRepeated(name: string, { fence, handlings }: Tenure, ended: ReadonlySet<number>): Violation[] {
  const begun = new Set(handlings.filter(({ step }) => step === 'begun').map(({ n }) => n))
  const repeated = [...begun].filter((n) => ended.has(n))
  const certain = hasEffects(name) ? repeated.filter((n) => fateOf(n, 2) === 'is handled') : []
  const list = certain.length > 0 ? certain : repeated.length > COMMIT_EVERY ? repeated : []
  if (list.length === 0) return []
  return [violation('repeated', `${name}: records ${list.join(', ')} were handled again under ${fence}`)]
}

function findWrongEffects({ added, effects, name }: StreamEvidence): Violation[] {
  if (effects === null) return []
  const expected = numbersUpTo(added).filter((n) => fateOf(n, 2) === 'is handled')
  const index = expected.findIndex((n, at) => effects[at] !== n)
  if (index === -1 && effects.length === expected.length) return []
  const at = index === -1 ? expected.length : index
  const text = `${name}: ${effects[at] ?? 'nothing'} where the effect of ${expected[at] ?? 'nothing'} should be`
  return [violation('effects not once', text)]
}

function findWrongLetters({ added, dead, name }: StreamEvidence): Violation[] {
  if (dead === null) return []
  const expected = numbersUpTo(added).filter((n) => fateOf(n, 1) === 'is doomed')
  if (String(dead) === String(expected)) return []
  const text = `${name}: ${dead.join(', ') || 'none'} with the dead letters instead of ${expected.join(', ') || 'none'}`
  return [violation('dead letters not once', text)]
}

function numbersUpTo(greatest: number): number[] {
  return Array.from({ length: greatest }, (_, index) => index + 1)
}

function isEnd({ step }: Handling): boolean {
  return step === 'handled' || step === 'doomed'
}
