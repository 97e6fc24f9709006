/**
 * Deliberate weakenings of the client and of the worker. Each is a patch applied to a copy of the built package; a run
 * with the faults that need the removed protection has to find the kind of violation that it protects from. A suite that
 * cannot fail proves nothing.
 */
import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { run } from './run.js'
import { describeViolation, type Violation, type ViolationKind } from './violation.js'

export interface Weakening {
  readonly name: string
  /** The package that is weakened, and with it what the fleet does. Default the client, and jobs. */
  readonly package?: 'client' | 'worker'
  /** What the fleet does, where that is something else. */
  readonly work?: 'shares'
  /** Texts of the built files and what replaces them, wherever they stand. */
  readonly patches: readonly { readonly from: string; readonly to: string }[]
  readonly faults: readonly string[]
  /** What has to be found. Anything else may be found too. */
  readonly finds: ViolationKind
  readonly withReplica?: boolean
  /** Default: a minute, and over when what has to be found is. */
  readonly durationMs?: number
}

const SEED = 1
const DURATION_MS = 60_000

export const WEAKENINGS: readonly Weakening[] = [
  {
    name: 'no token check in commit and finish',
    patches: [
      {
        from: "local is_alive = redis.call('GET', heartbeat) == token",
        to: 'local is_alive = true',
      },
      {
        from: 'if not record or record.id ~= id or record.fence ~= fence or record.owner ~= consumer then',
        to: 'if not record then',
      },
      // The number of a commit orders those of one owner, and stops some of another's by chance.
      { from: 'if number > record.commits then', to: 'if true then' },
      {
        from: 'if record.id ~= id or record.owner ~= consumer then',
        to: 'if false then',
      },
    ],
    faults: ['freezeForLong'],
    finds: 'stale commit',
  },
  {
    name: 'trust counted from the answer, without a margin',
    patches: [
      { from: 'this.trust.renew(sentAt)', to: 'this.trust.renew(clock.now())' },
      { from: 'this.#ttlMs - marginMs -', to: 'this.#ttlMs -' },
    ],
    faults: ['delayThenFreeze'],
    finds: 'two owners',
  },
  {
    name: 'no probe',
    patches: [
      {
        from: 'await this.#round()',
        to: 'await Promise.resolve()',
      },
    ],
    faults: ['killUnheard'],
    finds: 'stuck',
  },
  {
    name: 'a lock for each entry instead of each stream',
    patches: [
      {
        from: '[each.id, each.dataStreamName,',
        to: "[each.id, each.dataStreamName + ' ' + each.id,",
      },
      {
        from: 'return [tenure.dataStreamName,',
        to: "return [tenure.dataStreamName + ' ' + tenure.idInLbs,",
      },
    ],
    faults: ['flushScripts'],
    finds: 'two owners',
  },
  {
    name: 'an older record that comes back keeps its fence',
    patches: [{ from: 'if tonumber(record.fence) <= tonumber(known_fence) then', to: 'if false then' }],
    faults: ['comeBackOlder'],
    finds: 'fence not grown',
  },
  {
    name: 'replicas are not waited for',
    patches: [{ from: 'isBehind: acknowledged < replicas.count', to: 'isBehind: false' }],
    faults: ['failover'],
    finds: 'wrong checkpoint',
    withReplica: true,
  },
  {
    name: 'no backlog',
    patches: [
      {
        from: 'local function push_backlog(waiting, id, fields)',
        to: 'local function push_backlog(waiting, id, fields) if true then return end',
      },
    ],
    faults: ['flushScripts'],
    finds: 'lost',
    // What is lost is missed at the end.
    durationMs: 2000,
  },
  {
    name: 'a plan says how many streams to give, not how many to keep',
    work: 'shares',
    patches: [
      {
        from: 'member.owned > quota ? [[member.consumer, quota]] : []',
        to: 'member.owned > quota ? [[member.consumer, member.owned - quota]] : []',
      },
      {
        from: 'quota === undefined ? null : { ...plan, quota }',
        to: 'quota === undefined ? null : { ...plan, quota: this.#context.ownership.streams.size - quota }',
      },
    ],
    faults: ['scaleOut'],
    finds: 'restless',
    // What has moved in vain is looked at when all is done.
    durationMs: 1000,
  },
  {
    name: 'a plan is carried out after it was replaced',
    work: 'shares',
    patches: [
      { from: 'const plan = await scripts.plan()', to: 'const plan = (this.first ??= await scripts.plan())' },
    ],
    faults: ['scaleIn', 'scaleOut'],
    finds: 'restless',
    durationMs: 10_000,
  },
  {
    name: 'a record is committed before its handler is called',
    package: 'worker',
    patches: [
      {
        // With what was handled, what was only read is committed.
        from: 'await this.writer.save(() => this.progress.draft())',
        to:
          'await this.writer.save(() => { const draft = this.progress.draft(); ' +
          'return draft && { ...draft, checkpoint: { ...draft.checkpoint, position: this.readPosition } } })',
      },
    ],
    faults: ['kill'],
    finds: 'passed over',
  },
  {
    name: 'a commit that is due is not waited for',
    package: 'worker',
    patches: [
      { from: 'run.progress.uncommitted + this.#nextCount(run) > commitEvery', to: 'false' },
      { from: 'run.progress.uncommitted >= commitEvery', to: 'false' },
    ],
    faults: ['kill'],
    finds: 'repeated',
  },
  {
    name: 'a transaction asks neither for the session nor for the fence',
    package: 'worker',
    patches: [
      { from: 'if (!this.#fence.isHeld())', to: 'if (false)' },
      {
        from: "if redis.call('GET', heartbeat) ~= token then",
        to: 'if false then',
      },
      {
        from: 'if not record or record.err or record.id ~= id or record.fence ~= fence',
        to: 'if not record or record.err',
      },
      { from: "or record.owner ~= client_id .. ':' .. token", to: '' },
      // The number of a commit orders those of one owner, and stops some of another's by chance.
      { from: 'if record.commits >= number then', to: 'if false then' },
    ],
    faults: ['pauseLong'],
    finds: 'effects not once',
    // Effects are looked at when all is done.
    durationMs: 10_000,
  },
]

const UNWEAKENED = [
  { name: 'the client as it is', work: 'jobs', withReplica: false },
  { name: 'the client as it is, with a replica', work: 'jobs', withReplica: true },
  { name: 'the client as it is, with streams to share', work: 'shares', withReplica: false },
  { name: 'the worker as it is', work: 'records', withReplica: false },
] as const

/** Runs every weakening, and the unweakened client under the same faults. True if each was caught and that was not. */
export async function catchWeakenings(say: (line: string) => void): Promise<boolean> {
  let isWell = true
  for (const weakening of WEAKENINGS) {
    const violations = await runWeakened(weakening)
    const found = violations.find(({ kind }) => kind === weakening.finds)
    if (found === undefined) isWell = false
    say(`${found === undefined ? 'NOT CAUGHT' : 'caught    '}  ${weakening.name}`)
    const shown = found === undefined ? violations : [found]
    for (const each of shown) say(`            ${describeViolation(each)}`)
  }
  for (const { name, withReplica, work } of UNWEAKENED) {
    const those = WEAKENINGS.filter(
      (weakening) => workOf(weakening) === work && (weakening.withReplica ?? false) === withReplica,
    )
    const faults = [...new Set(those.flatMap((weakening) => weakening.faults))]
    const { violations } = await run({ seed: SEED, durationMs: DURATION_MS / 2, faults, withReplica, work })
    if (violations.length > 0) isWell = false
    say(`${violations.length === 0 ? 'holds     ' : 'VIOLATED  '}  ${name}`)
    for (const each of violations) say(`            ${describeViolation(each)}`)
  }
  return isWell
}

/** What is found when the weakened package runs under the faults that need what it lacks. */
export async function runWeakened(weakening: Weakening): Promise<readonly Violation[]> {
  const { durationMs = DURATION_MS, faults, finds, withReplica = false } = weakening
  const dir = await mkdtemp(join(tmpdir(), 'rsc-'))
  try {
    const weakenedModule = await copyWeakened(dir, weakening)
    const report = await run({
      seed: SEED,
      durationMs,
      faults,
      persistence: 'rdb',
      withReplica,
      work: workOf(weakening),
      weakenedModule,
      stopsAt: finds,
    })
    return report.violations
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

/** Copies the built package into a folder and weakens it. Answers its main module. Rejects if there is nothing to weaken. */
export async function copyWeakened(
  dir: string,
  { package: name = 'client', patches }: Pick<Weakening, 'package' | 'patches'>,
): Promise<string> {
  const built = dirname(createRequire(import.meta.url).resolve(`@redis-stream-client/${name}`))
  const source = dirname(built)
  const copy = join(dir, 'dist')
  await cp(built, copy, { recursive: true })
  await cp(join(source, 'package.json'), join(dir, 'package.json'))
  await symlink(join(source, 'node_modules'), join(dir, 'node_modules'))
  const files = (await readdir(copy, { recursive: true })).filter((file) => file.endsWith('.js'))
  const missing = new Set(patches.map(({ from }) => from))
  for (const file of files) {
    const text = await readFile(join(copy, file), 'utf8')
    const found = patches.filter(({ from }) => text.includes(from))
    for (const { from } of found) missing.delete(from)
    const weakened = found.reduce((rest, { from, to }) => rest.replaceAll(from, to), text)
    if (found.length > 0) await writeFile(join(copy, file), weakened)
  }
  if (missing.size > 0) throw new Error(`nothing to weaken: ${[...missing].join('; ')}`)
  return pathToFileURL(join(copy, 'index.js')).href
}

function workOf({ package: name = 'client', work }: Weakening): 'jobs' | 'records' | 'shares' {
  return work ?? (name === 'client' ? 'jobs' : 'records')
}
