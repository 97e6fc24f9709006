/** What has to hold of the shares of a service's clients. */

/** The default of `rebalance.settleMs`. */
const SETTLE_MS = 5000
/** So long after clients have come, streams have their places. */
export const EVEN_WITHIN_MS: number = SETTLE_MS + 2000
/** What the busiest may have of the mean. */
export const EVEN = 1.1
/** The share of all streams that a crashing pod may get, and the busiest of the healthy ones by their mean. */
export const CRASH_LOOP_LIMITS: { readonly share: number; readonly spread: number } = {
  share: 0.02,
  spread: EVEN,
}
