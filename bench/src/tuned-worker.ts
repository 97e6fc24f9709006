/** BullMQ's best fair settings beside ours: locks of our TTL, and a check as often as our probe. */
export const TUNED_WORKER: Readonly<Record<string, number>> = {
  lockDuration: 2000,
  stalledInterval: 500,
  maxStalledCount: 1000,
}
