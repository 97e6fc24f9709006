/** What is measured, and what each peer guarantees less than ours, or does besides. The rows of the tables show it. */

export interface Peer {
  readonly name: string
  readonly differs: string
}

export const OURS: Peer = { name: 'ours', differs: '' }

const JOBS = 'jobs, not streams: no order of one stream, no fence'

/** BullMQ set up like this. */
export function bullmq(how: string): Peer {
  return { name: `BullMQ, ${how}`, differs: JOBS }
}

/** Plain commands. */
export function bare(how: string, differs: string): Peer {
  return { name: `bare ${how}`, differs }
}

/** The differences of plain commands. */
export const BARE = {
  reading: 'entries go to whoever reads: no owner, no fence',
  holding: 'nothing tells a holder that it has lost an entry; no fence',
  claiming: 'it knows every id beforehand; no lock, no fence, nobody is told',
  working: 'one consumer, no owner, no retry; acknowledges each read in one command',
} as const
