/** A ledger of streams that nobody finishes: it also holds what clients give back against what plans have asked for. */
import { Ledger } from './ledger.js'

export class SharingLedger extends Ledger {
  /** Least number of streams that a plan has told a client to keep. */
  readonly #quotas = new Map<string, number>()
  /** Hears who was dealt an entry. */
  onDealt: (consumer: string) => void = () => undefined

  planned(keep: Readonly<Record<string, number>>): void {
    for (const [consumer, quota] of Object.entries(keep)) {
      this.#quotas.set(consumer, Math.min(quota, this.#quotas.get(consumer) ?? quota))
    }
  }

  gaveBack(consumer: string, left: number): void {
    const quota = this.#quotas.get(consumer)
    if (quota === undefined) this.fail(`${consumer} gave streams back and no plan had asked it to`)
    else if (left < quota) {
      this.fail(`${consumer} gave back so much that ${left} are left, and plans told it to keep ${quota}`)
    }
  }

  override moved(id: string, from: string, to: string, by: string): void {
    super.moved(id, from, to, by)
    this.onDealt(to)
  }
}
