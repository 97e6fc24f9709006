/** A consumer has joined, and what came of it: how many streams the others gave back, until all had equally many. */

/** Consumers that differ from the mean by no more than this share, or by one stream, have equally many. */
const TOLERANCE = 0.1

export class Sharing {
  readonly consumer: string
  readonly atMs: number
  /** Streams that their owners have given back. */
  moves = 0
  /** How long each of them had no owner. */
  readonly ownerlessMs: number[] = []
  /** How long it took until all consumers had equally many streams; null until then. What moves later is not counted. */
  evenAfterMs: number | null = null

  constructor(consumer: string, atMs: number) {
    this.consumer = consumer
    this.atMs = atMs
  }

  gaveBack(): void {
    if (this.evenAfterMs === null) this.moves++
  }

  moved(ownerlessMs: number): void {
    if (this.evenAfterMs === null) this.ownerlessMs.push(ownerlessMs)
  }

  /** `counts`: how many streams each consumer owns. */
  look(counts: readonly number[], nowMs: number): void {
    if (this.evenAfterMs === null && this.moves > 0 && areEven(counts)) this.evenAfterMs = nowMs - this.atMs
  }
}

function areEven(counts: readonly number[]): boolean {
  const mean = counts.reduce((sum, count) => sum + count, 0) / counts.length
  return counts.every((count) => Math.abs(count - mean) <= Math.max(1, TOLERANCE * mean))
}
