/** What a run may find. The kind says which promise is broken, the text where and how. */

export type ViolationKind =
  /** Two processes trusted themselves to own one stream. */
  | 'two owners'
  /** A fence was not greater than all before it. */
  | 'fence not grown'
  /** Redis accepted a write under an old fence after one under a newer fence. */
  | 'stale commit'
  /** An owner was given a checkpoint of another job, or one older than what was acknowledged. */
  | 'wrong checkpoint'
  /** What was added for sure was not done in the end. */
  | 'lost'
  /** Nobody worked on a stream for longer than it may take. */
  | 'stuck'
  /** Redis held something of a service that had nothing left to do. */
  | 'left over'
  /** A process did not end in time or not in good order. */
  | 'bad end'
  /** Nobody listened to a rejection or an error. */
  | 'unhandled'
  /** A process holds more than it needs. */
  | 'grown'
  /** Two processes with one id were not told apart. */
  | 'twin accepted'
  /** A handler got a record that was not the next one of its stream. */
  | 'disorder'
  /** An owner began behind a record that nobody had handled. */
  | 'passed over'
  /** An owner got more records again than may be uncommitted, or one that a transaction had committed. */
  | 'repeated'
  /** The effects of transactions are not those of each record once, in order. */
  | 'effects not once'
  /** The dead letters are not those of each record that failed for good, once. */
  | 'dead letters not once'
  /** Redis accepted a position behind one it had accepted before. */
  | 'position back'
  /** Streams were not shared evenly in the end, or moved although they were. */
  | 'restless'
  /** A fault did not do what it is for. */
  | 'no fault'

export interface Violation {
  readonly kind: ViolationKind
  readonly text: string
}

export function violation(kind: ViolationKind, text: string): Violation {
  return { kind, text }
}

export function describeViolation({ kind, text }: Violation): string {
  return `${kind}: ${text}`
}
