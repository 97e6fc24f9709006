/** Docs and code say the same: what a page lists is compared with what the code knows. */
import { access, readdir, readFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { ERROR_CODES, type StreamClientError } from '../src/index.js'
import { resolveOptions } from '../src/options.js'
import { resolveServiceKeys } from '../src/service-keys.js'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const NOT_OURS = new Set(['node_modules', 'dist', 'cjs', 'coverage', 'test-results', '.git'])

const read = (path: string): Promise<string> => readFile(join(ROOT, path), 'utf8')

/** Pages under a folder, as paths from the root. */
async function pages(folder = ROOT): Promise<string[]> {
  const found: string[] = []
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory() && !NOT_OURS.has(entry.name)) found.push(...(await pages(path)))
    else if (entry.name.endsWith('.md')) found.push(relative(ROOT, path))
  }
  return found.sort()
}

/** The cells of every row of the tables on a page whose first cell is one piece of code. */
function tableRows(page: string): string[][] {
  return page
    .split('\n')
    .filter((line) => /^\| `[^`]+` \|/.test(line))
    .map((line) =>
      line
        .replaceAll('\\|', '\u0000')
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.replaceAll('\u0000', '|').trim()),
    )
}

const uncoded = (cell: string): string => cell.replaceAll('`', '')

/** Headings of a level with the text below each. */
function sections(page: string, level: number): Map<string, string> {
  const parts = page.split(new RegExp(`^${'#'.repeat(level)} `, 'm')).slice(1)
  return new Map(parts.map((part) => [part.split('\n')[0] as string, part]))
}

/** Names of the members of an interface, as its source writes them. */
function membersOf(source: string, name: string): string[] {
  const body =
    new RegExp(`export interface ${name}(?:<.*>)? \\{\\n([\\s\\S]*?)\\n\\}`).exec(source)?.[1] ?? ''
  return [...body.matchAll(/^ {2}(?:readonly )?(\w+)\??: /gm)].map(([, member]) => member as string)
}

describe('the page of errors', () => {
  it('describes exactly the codes there are, in their order', async () => {
    const codes = [...sections(await read('docs/reference/errors.md'), 2).keys()]
    expect(codes).toEqual([...ERROR_CODES])
  })

  it('says of each code when it comes and what to do', async () => {
    for (const [code, text] of sections(await read('docs/reference/errors.md'), 2)) {
      expect(text, code).toContain('**When:**')
      expect(text, code).toContain('**Do:**')
    }
  })
})

describe('the page of options', () => {
  const options = async () => {
    const page = (await read('docs/reference/options.md')).split('\n## ')[0] as string
    return tableRows(page).map(([name, fallback, range]) => ({
      name: uncoded(name as string),
      fallback: fallback as string,
      range: range as string,
    }))
  }
  const resolve = (name: string, value: unknown) => {
    const [outer, inner] = name.split('.') as [string, string | undefined]
    const rest = outer === 'replicas' ? { count: 1, timeoutMs: 1 } : {}
    return resolveOptions(
      { [outer]: inner === undefined ? value : { ...rest, [inner]: value } },
      { POD_NAME: 'pod-1' },
    )
  }
  const codeOf = (name: string, value: unknown): string => {
    try {
      resolve(name, value)
      return 'accepted'
    } catch (error) {
      return (error as StreamClientError).code
    }
  }

  it('lists exactly the options there are', async () => {
    const source = await read('packages/client/src/options.ts')
    const names = [
      ...membersOf(source, 'ClientOptions'),
      ...membersOf(source, 'RetryOptions').map((name) => `retry.${name}`),
      ...membersOf(source, 'RebalanceOptions').map((name) => `rebalance.${name}`),
      ...membersOf(source, 'ReplicaOptions').map((name) => `replicas.${name}`),
    ]
    expect(names.length).toBeGreaterThan(15)
    const listed = (await options()).map(({ name }) => name)
    expect(listed.sort()).toEqual(names.sort())
  })

  it('gives the defaults of the resolver', async () => {
    const resolved = resolveOptions({}, { POD_NAME: 'pod-1' })
    const { rebalance, retry, ...flat } = resolved
    const defaults = { ...flat } as Record<string, string | number | null>
    for (const [name, value] of Object.entries(retry)) defaults[`retry.${name}`] = value
    for (const [name, value] of Object.entries(rebalance ?? {})) defaults[`rebalance.${name}`] = value
    for (const { name, fallback } of await options()) {
      if (!(name in defaults)) continue
      const value = defaults[name]
      const isNone = value === Infinity || value === null || (name === 'maxCrashes' && value === -1)
      if (isNone) expect(fallback, name).toMatch(/^(no limit|none)$/)
      else if (name === 'probeIntervalMs') expect(fallback).toBe('`heartbeatTtlMs` / 4')
      else expect(fallback, name).toBe(`\`${value}\``)
    }
    expect(defaults['probeIntervalMs']).toBe((defaults['heartbeatTtlMs'] as number) / 4)
  })

  it('gives the ranges of the resolver', async () => {
    let checked = 0
    for (const { name, range } of await options()) {
      const bounds = /^`(-?\d+)` (?:to `(\d+)`|and more)/.exec(range)
      if (bounds === null) continue
      const [least, greatest] = [Number(bounds[1]), Number(bounds[2] ?? Number.NaN)]
      checked++
      expect(codeOf(name, least - 1), `${name} below its range`).toBe('OPTION_INVALID')
      if (name !== 'heartbeatTtlMs' && !name.startsWith('retry.'))
        expect(codeOf(name, least), `${name} at its least`).toBe('accepted')
      if (Number.isNaN(greatest)) continue
      expect(codeOf(name, greatest + 1), `${name} above its range`).toBe('OPTION_INVALID')
    }
    expect(checked).toBeGreaterThan(10)
  })
})

describe('the page of keys and scripts', () => {
  it('names exactly the keys there are', async () => {
    const page = (await read('docs/reference/keys-and-scripts.md')).split('\n## LBS entries')[0] as string
    const keys = resolveServiceKeys('x', { onCluster: false })
    const { service: _service, heartbeatPrefix: _prefix, ...rest } = keys
    const names = Object.values(rest).filter((value): value is string => typeof value === 'string')
    const ofStream = [keys.backlog('<data stream>'), keys.late('<data stream>')]
    const expected = [...names, keys.heartbeat('<client id>'), ...ofStream].map((name) =>
      name.replace(/^x/, '<service>'),
    )
    expect(
      tableRows(page)
        .map(([name]) => uncoded(name as string))
        .sort(),
    ).toEqual(expected.sort())
  })

  it('describes exactly the scripts there are, with every answer of each', async () => {
    const files = (await readdir(join(ROOT, 'packages/client/lua'))).filter((name) => name.endsWith('.lua'))
    const described = sections(await read('docs/reference/keys-and-scripts.md'), 3)
    expect([...described.keys()].sort()).toEqual(files.sort())
    for (const file of files) {
      const header = (await read(`packages/client/lua/${file}`)).split(/^local /m)[0] as string
      const answers = header.slice(header.indexOf('-- Returns')).matchAll(/'([A-Z_]+)'/g)
      for (const [, answer] of answers) expect(described.get(file), file).toContain(`\`${answer}\``)
    }
  })

  it('names the parts of a lock record in their order', async () => {
    const page = await read('docs/reference/keys-and-scripts.md')
    const record = await read('packages/client/lua/includes/record.lua')
    const inCode = /`(<LBS id>[^`]*)`/.exec(record)?.[1]?.replace('fence', 'fencing token')
    expect(inCode).toBeDefined()
    expect(page).toContain(inCode?.replace('since ms', 'since'))
  })
})

describe('the page of metrics', () => {
  it('names exactly the methods of a recorder, with the fields of their events', async () => {
    const source = await read('packages/client/src/metrics.ts')
    const body = /export interface MetricsRecorder \{\n([\s\S]*?)\n\}/.exec(source)?.[1] ?? ''
    const inCode = [...body.matchAll(/^ {2}(\w+)\?\(event: \{([^}]*)\}/gm)].map(([, method, fields]) => [
      method,
      [...(fields as string).matchAll(/(\w+): /g)].map(([, field]) => field),
    ])
    expect(inCode.length).toBeGreaterThan(5)
    const page = (await read('docs/reference/metrics.md')).split('\n## ')[0] as string
    const listed = tableRows(page)
      .filter((cells) => cells.length === 3)
      .map(([method, fields]) => [uncoded(method as string), uncoded(fields as string).split(', ')])
    expect(listed).toEqual(inCode)
  })
})

describe('the page of the architecture', () => {
  it('says of every source file of the client what it does', async () => {
    const page = await read('docs/architecture.md')
    const folder = join(ROOT, 'packages/client/src')
    const files = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith('.ts'))
    expect(files.length).toBeGreaterThan(20)
    const missing = files.filter((file) => file !== 'index.ts' && !page.includes(`\`${file}\``))
    expect(missing).toEqual([])
  })
})

describe('SPEC.md', () => {
  it('names only tests that exist', async () => {
    const spec = await read('SPEC.md')
    const references = [...spec.matchAll(/^ *- \[([^\]]+\.test\.ts)\]\(([^)]+)\): (.+)$/gm)]
    expect(references.length).toBeGreaterThan(20)
    const missing: string[] = []
    for (const [, label, path, titles] of references) {
      expect(path).toBe(label)
      const source = (await read(path as string)).replaceAll("\\'", "'")
      for (const [, title] of (titles as string).matchAll(/"([^"]+)"/g)) {
        if (!source.includes(title as string)) missing.push(`${label}: ${title}`)
      }
      expect(titles, label).toMatch(/^"/)
    }
    expect(missing).toEqual([])
  })

  it('names a test for each invariant', async () => {
    const invariants = [...sections(await read('SPEC.md'), 3)].filter(([heading]) => /^\d+\. /.test(heading))
    expect(invariants.length).toBeGreaterThan(8)
    expect(invariants.map(([heading]) => Number.parseInt(heading, 10))).toEqual(
      invariants.map((_, n) => n + 1),
    )
    for (const [heading, text] of invariants) expect(text, heading).toMatch(/^- \[[^\]]+\.test\.ts\]/m)
  })
})

describe('every page', () => {
  it('links only to what is there', async () => {
    const broken: string[] = []
    for (const page of await pages()) {
      for (const [, target] of (await withoutCode(page)).matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^(https?:|mailto:)/.test(target as string)) continue
        const [path = '', anchor] = (target as string).split('#')
        const file = path === '' ? page : join(dirname(page), path)
        const isThere = await exists(file)
        if (!isThere) broken.push(`${page}: ${target}`)
        else if (anchor !== undefined && !(await anchors(file)).has(anchor)) broken.push(`${page}: ${target}`)
      }
    }
    expect(broken).toEqual([])
  })

  it('names no path of a machine', async () => {
    for (const page of await pages()) {
      expect(await read(page), page).not.toMatch(/(?<![\w.:/-])\/(home|root|Users|work|mnt|workspace)\//)
    }
  })
})

async function exists(path: string): Promise<boolean> {
  return await access(join(ROOT, path)).then(
    () => true,
    () => false,
  )
}

async function withoutCode(page: string): Promise<string> {
  return (await read(page)).replace(/^```[\s\S]*?^```/gm, '').replace(/`[^`\n]*`/g, '')
}

/** What a link to a heading of a page may say. */
async function anchors(page: string): Promise<Set<string>> {
  const text = (await read(page)).replace(/^```[\s\S]*?^```/gm, '')
  return new Set(
    [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
      (heading as string)
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  )
}

describe('the READMEs of the packages', () => {
  it('lead to whole addresses, because a tarball has no other page', async () => {
    for (const page of (await pages()).filter((each) => /^packages\/\w+\/README\.md$/.test(each))) {
      for (const [, target] of (await read(page)).matchAll(/\]\(([^)]+)\)/g)) {
        expect(target, page).toMatch(/^(https:\/\/|#)/)
      }
    }
  })
})

describe('workflows', () => {
  it('name every action by the digest of a commit, with its version beside it', async () => {
    const files = await readdir(join(ROOT, '.github/workflows'))
    const uses = (await Promise.all(files.map((file) => read(join('.github/workflows', file)))))
      .flatMap((text) => text.split('\n'))
      .filter((line) => /^\s*(?:- )?uses:/.test(line))
    expect(uses.length).toBeGreaterThan(0)
    for (const line of uses) expect(line).toMatch(/uses: \S+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/)
  })
})
