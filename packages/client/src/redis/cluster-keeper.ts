/**
 * Has a Cluster of ioredis come back where it would stay away for ever.
 *
 *   disconnecting  it waits for its last node to end. An answer MOVED that is still under way adds one that nobody uses
 *   close          it was closed twice, the second time while it had begun to connect
 *
 * Each command would be refused as long as the process lives, and the session kept all the while.
 */
import type { Cluster } from 'ioredis'

const LOOK_EVERY_MS = 250
/** How many looks in a row have to see the same. On its way it is for some milliseconds. */
const PATIENCE = 2

export class ClusterKeeper {
  readonly #cluster: Cluster
  readonly #timer: NodeJS.Timeout
  #seen = ''
  #times = 0

  constructor(cluster: Cluster) {
    this.#cluster = cluster
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    const { status } = this.#cluster
    this.#times = status === this.#seen ? this.#times + 1 : 1
    this.#seen = status
    if (this.#times < PATIENCE) return
    if (status === 'disconnecting') this.#cluster.disconnect(true)
    if (status === 'close') this.#cluster.connect().catch(() => undefined) // what is wrong comes as an event
  }
}
