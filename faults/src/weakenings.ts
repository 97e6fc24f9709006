/**
 * Deliberate weakenings of the client. Each is a patch applied to a copy of the built package; a run with the faults
 * that need the removed protection has to find a violation. A suite that cannot fail proves nothing.
 */
import { cp, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { run } from './run.js'

export interface Weakening {
  readonly name: string
  /** Texts of the built files and what replaces them, wherever they stand. */
  readonly patches: readonly { readonly from: string; readonly to: string }[]
  readonly faults: readonly string[]
  readonly withReplica?: boolean
  /** Default: a minute, and over with the first violation. */
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
  },
  {
    name: 'trust counted from the answer, without a margin',
    patches: [
      { from: 'this.trust.renew(sentAt)', to: 'this.trust.renew(clock.now())' },
      { from: 'this.#ttlMs - marginMs -', to: 'this.#ttlMs -' },
    ],
    faults: ['delayThenFreeze'],
  },
  {
    name: 'no probe',
    patches: [
      {
        from: 'await this.#round(session, signal, isFirst)',
        to: 'await Promise.resolve()',
      },
    ],
    faults: ['killUnheard'],
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
  },
  {
    name: 'an older record that comes back keeps its fence',
    patches: [{ from: 'if tonumber(record.fence) <= tonumber(known_fence) then', to: 'if false then' }],
    faults: ['comeBackOlder'],
  },
  {
    name: 'replicas are not waited for',
    patches: [{ from: 'isBehind: acknowledged < replicas.count', to: 'isBehind: false' }],
    faults: ['failover'],
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
    // What is lost is missed at the end.
    durationMs: 2000,
  },
]

/** Runs every weakening, and the unweakened client under the same faults. True if each was caught and that was not. */
export async function catchWeakenings(say: (line: string) => void): Promise<boolean> {
  let isWell = true
  for (const weakening of WEAKENINGS) {
    const violations = await runWeakened(weakening)
    if (violations.length === 0) isWell = false
    say(`${violations.length > 0 ? 'caught    ' : 'NOT CAUGHT'}  ${weakening.name}`)
    if (violations[0] !== undefined) say(`            ${violations[0]}`)
  }
  for (const withReplica of [false, true]) {
    const those = WEAKENINGS.filter((weakening) => (weakening.withReplica ?? false) === withReplica)
    const faults = [...new Set(those.flatMap((weakening) => weakening.faults))]
    const { violations } = await run({ seed: SEED, durationMs: DURATION_MS / 2, faults, withReplica })
    if (violations.length > 0) isWell = false
    const client = withReplica ? 'the client as it is, with a replica' : 'the client as it is'
    say(`${violations.length === 0 ? 'holds     ' : 'VIOLATED  '}  ${client}`)
    for (const violation of violations) say(`            ${violation}`)
  }
  return isWell
}

/** What is found when the weakened client runs under the faults that need what it lacks. */
export async function runWeakened({
  durationMs = DURATION_MS,
  faults,
  patches,
  withReplica = false,
}: Weakening): Promise<readonly string[]> {
  const dir = await mkdtemp(join(tmpdir(), 'rsc-'))
  try {
    const clientModule = await copyWeakened(dir, patches)
    const report = await run({
      seed: SEED,
      durationMs,
      faults,
      persistence: 'rdb',
      withReplica,
      clientModule,
      stopsEarly: true,
    })
    return report.violations
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

/** Copies the built client into a folder and weakens it. Answers its main module. Rejects if there is nothing to weaken. */
export async function copyWeakened(dir: string, patches: Weakening['patches']): Promise<string> {
  const built = dirname(createRequire(import.meta.url).resolve('@redis-stream-client/client'))
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
