/** Ways to weaken the client or its server, each of which a simulation has to notice. */
import { Failover } from '../../src/agents/failover.js'
import { Probe } from '../../src/agents/probe.js'
import { Reconciler } from '../../src/agents/reconciler.js'
import { type Instant, systemClock } from '../../src/decisions/clock.js'
import type { RebalancePlan } from '../../src/decisions/rebalance-plan.js'
import { Trust } from '../../src/decisions/trust.js'
import { Ownership } from '../../src/ownership/ownership.js'
import { ServiceScripts } from '../../src/redis/service-scripts.js'
import type { PlayOptions } from './schedule.js'

export interface Weakening {
  readonly name: string
  /** What the violation says. */
  readonly noticed: RegExp
  readonly options?: PlayOptions
  /** Where to begin, for one that shows in few schedules. */
  readonly firstSeed?: number
  /** In schedules of clients that share streams. */
  readonly isOfSharing?: boolean
  /** Puts something else in the place of a method; answers how to take it back. */
  readonly apply?: () => () => void
}

export const WEAKENINGS: readonly Weakening[] = [
  {
    name: 'a TTL that is shorter by what the margin of trust allows for',
    noticed: /while .* (trusted itself|owned it)/,
    options: { shorterTtl: 0.05 },
  },
  {
    name: 'trust counted from the answer of a heartbeat',
    firstSeed: 150,
    noticed: /while .* (trusted itself|owned it)/,
    apply: () => {
      const renew = Reflect.get(Trust.prototype, 'renew') as (this: Trust, sentAt: Instant) => boolean
      return replace(Trust.prototype, 'renew', function (this: Trust) {
        return renew.call(this, systemClock.now())
      })
    },
  },
  {
    name: 'no check of the living owner',
    noticed: /was given to .* while .* owned it/,
    options: { weakness: 'no-owner-check' },
  },
  {
    name: 'no check of the fence when a stream is finished',
    noticed: /was accepted under|was finished, but it is|while .* owned it/,
    options: { weakness: 'no-fence-check' },
  },
  { name: 'no backlog', noticed: /is lost/, options: { weakness: 'no-backlog' } },
  {
    name: 'nobody who takes what waits',
    noticed: /not brought to an end|had no owner/,
    apply: () => replace(Failover.prototype, 'hearWaiting', () => undefined),
  },
  {
    name: 'entries put into the pool before it is clear whose they are',
    noticed: /was moved from .*, who is alive|had no owner|owned it/,
    firstSeed: 300,
    options: { weakness: 'release-before-the-check' },
  },
  {
    name: 'no probe, so that lost hints are lost',
    noticed: /not brought to an end|had no owner/,
    apply: () => replace(Probe.prototype, 'run', () => Promise.resolve()),
  },
  {
    name: 'no reconciliation, so that lost answers are lost',
    noticed: /not brought to an end|had no owner/,
    apply: () => replace(Reconciler.prototype, 'run', () => Promise.resolve()),
  },
  {
    name: 'no limit of owned streams',
    noticed: /but may own|has room for/,
    apply: () => {
      const restores = [
        replaceGetter(Ownership.prototype, 'capacity', () => Number.POSITIVE_INFINITY),
        replaceGetter(Ownership.prototype, 'excess', () => 0),
      ]
      return () => {
        for (const restore of restores) restore()
      }
    },
  },
  {
    name: 'streams dealt to whoever asks, without a look at its heartbeat',
    isOfSharing: true,
    noticed: /was dealt to .*, whose session is over/,
    options: { weakness: 'deal-to-the-dead' },
  },
  {
    name: 'streams of a living client dealt to others',
    isOfSharing: true,
    noticed: /was moved from .*, who is alive|owned it/,
    options: { weakness: 'deal-from-the-living' },
  },
  {
    name: 'plans that say how many streams to give, not how many to keep',
    isOfSharing: true,
    noticed: /gave back|not shared evenly|go on moving/,
    apply: giveInsteadOfKeep,
  },
  {
    name: 'a plan that is carried out after it was replaced',
    isOfSharing: true,
    noticed: /gave back|not shared evenly|go on moving/,
    apply: () => {
      // oxlint-disable-next-line typescript/unbound-method -- called with its object
      const read = ServiceScripts.prototype.plan
      const first = new WeakMap<ServiceScripts, RebalancePlan>()
      return replace(ServiceScripts.prototype, 'plan', async function (this: ServiceScripts) {
        const plan = first.get(this) ?? (await read.call(this))
        if (plan !== null) first.set(this, plan)
        return plan
      })
    },
  },
]

function giveInsteadOfKeep(): () => void {
  // oxlint-disable-next-line typescript/unbound-method -- called with its object
  const { plan: read, publishPlan: publish } = ServiceScripts.prototype
  const ownedNow = async (scripts: ServiceScripts): Promise<Map<string, number>> =>
    new Map((await scripts.roster()).map(({ consumer, pending }) => [consumer, pending]))
  const lessOf = (keep: RebalancePlan['keep'], owned: Map<string, number>): RebalancePlan['keep'] =>
    Object.fromEntries(
      Object.entries(keep).map(([consumer, count]) => [
        consumer,
        Math.max(0, (owned.get(consumer) ?? 0) - count),
      ]),
    )
  const restores = [
    replace(ServiceScripts.prototype, 'publishPlan', async function (this: ServiceScripts, plan, rules) {
      return await publish.call(this, { ...plan, keep: lessOf(plan.keep, await ownedNow(this)) }, rules)
    }),
    replace(ServiceScripts.prototype, 'plan', async function (this: ServiceScripts) {
      const plan = await read.call(this)
      return plan === null ? null : { ...plan, keep: lessOf(plan.keep, await ownedNow(this)) }
    }),
  ]
  return () => {
    for (const restore of restores) restore()
  }
}

function replace<T extends object, K extends keyof T>(target: T, key: K, value: T[K]): () => void {
  const original = target[key]
  target[key] = value
  return () => {
    target[key] = original
  }
}

function replaceGetter<T extends object>(target: T, key: keyof T, get: () => unknown): () => void {
  const original = Object.getOwnPropertyDescriptor(target, key)
  if (original === undefined) throw new TypeError(`there is no ${String(key)}`)
  Object.defineProperty(target, key, { ...original, get })
  return () => Object.defineProperty(target, key, original)
}
