/** A fresh clone finds or fetches a Redis server, or says what to do. The machines here are made of a PATH of our own. */
import { execFile } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { eventually } from './src/support/eventually.js'

const SCRIPTS = fileURLToPath(new URL('../scripts/', import.meta.url))
const FINDER = fileURLToPath(new URL('../packages/testing/src/server/find-redis.js', import.meta.url))
const SERVER = '#!/bin/sh\necho "Redis server v=7.2.4 sha=00000000:0"'

let machine: string

beforeEach(async () => {
  machine = await mkdtemp(join(tmpdir(), 'machine-'))
  await mkdir(join(machine, 'bin'))
  // What the fake programs themselves need.
  for (const name of ['sh', 'cat', 'chmod', 'mkdir', 'sleep', 'touch']) {
    await program(name, `#!/bin/sh\nexec /bin/${name} "$@"`)
  }
})

afterEach(async () => {
  await rm(machine, { recursive: true, force: true })
})

async function program(name: string, text: string): Promise<void> {
  const path = join(machine, 'bin', name)
  await writeFile(path, `${text}\n`)
  await chmod(path, 0o755)
}

/** apt-get and dpkg, which unpack a server. `unpacking` is what dpkg does before it has done so. */
async function makeDebian(unpacking = ''): Promise<void> {
  await program('apt-get', '#!/bin/sh\nif [ "$1" = download ]; then touch server.deb; fi')
  await program('apt-cache', '#!/bin/sh')
  const unpack = `mkdir -p "$3/usr/bin"\ncat > "$3/usr/bin/redis-server" <<'END'\n${SERVER}\nEND`
  await program(
    'dpkg',
    `#!/bin/sh\n[ "$1" = -x ] || exit 0\n${unpacking}\n${unpack}\nchmod +x "$3/usr/bin/redis-server"`,
  )
}

interface Outcome {
  readonly code: number | string | null
  readonly output: string
}

/** Runs Node on that machine. */
function runNode(args: readonly string[], env: Record<string, string> = {}): Promise<Outcome> {
  const wholeEnv = {
    PATH: join(machine, 'bin'),
    XDG_CACHE_HOME: join(machine, 'cache'),
    HOME: machine,
    ...env,
  }
  return new Promise((resolve) => {
    execFile(process.execPath, args, { env: wholeEnv }, (error, stdout, stderr) =>
      resolve({ code: error?.code ?? 0, output: stdout + stderr }),
    )
  })
}

interface Search {
  readonly platform?: string
  readonly env?: Record<string, string>
  readonly options?: object
}

/** Asks for a server there. Whatever this machine has in the usual places does not count. */
function find({ platform = 'linux', env = {}, options = {} }: Search = {}): Promise<Outcome> {
  const code = `
    Object.defineProperty(process, 'platform', { value: '${platform}' })
    const { findRedisServer } = await import(${JSON.stringify(FINDER)})
    try { console.log('found', JSON.stringify(findRedisServer({ usualPlaces: [], ...${JSON.stringify(options)} }))) } catch (error) { console.log(error.message) }`
  return runNode(['--input-type=module', '--eval', code], env)
}

describe('a machine', () => {
  it('with a server on PATH uses that one', async () => {
    await program('valkey-server', SERVER)
    expect((await find()).output).toContain(join(machine, 'bin/valkey-server'))
  })

  it('with several servers on PATH uses the one of the version that is wanted', async () => {
    await program('redis-server', SERVER)
    await program('valkey-server', '#!/bin/sh\necho "Server v=8.1.0 sha=0"')
    const { output } = await find({ options: { version: '8' } })
    expect(output).toContain(join(machine, 'bin/valkey-server'))
    await program('redis-server', '#!/bin/sh\necho "Redis server v=7.20.1 sha=0"')
    expect((await find({ options: { version: '7.2' } })).output).toContain(
      'redis-server is version 7.20.1, and 7.2 is wanted',
    )
  })

  it('uses what was fetched before, and fetches nothing itself unless it may', async () => {
    await makeDebian()
    const refused = await find({ options: { download: false } })
    expect(refused.output).toContain('distribution packages: not fetched yet, and this run may not download')
    await find()
    const { output } = await find({ options: { download: false } })
    expect(output).toMatch(/^found .*"how":"cache folder"/m)
  })

  it('with an older server than is needed says so', async () => {
    await program('redis-server', '#!/bin/sh\necho "Redis server v=6.0.16 sha=0"')
    expect((await find()).output).toContain('is version 6.0.16; 6.2 is the oldest that works')
  })

  it('of the Debian family unpacks the package of the distribution into the cache folder', async () => {
    await makeDebian()
    expect((await find()).output).toMatch(/^found .*cache\/redis-stream-client\/.*\/usr\/bin\/redis-server/m)
  })

  it('with a cache folder that cannot be used says so, and tries the other ways', async () => {
    await makeDebian()
    await writeFile(join(machine, 'cache'), 'a file where the folder should be')
    const { output } = await find()
    expect(output).toContain(`(cache folder: ${join(machine, 'cache/redis-stream-client')})`)
    expect(output).toContain('docker: no docker daemon answers')
  })

  it.each(['linux', 'darwin'])('of kind %s that has nothing names every way there is', async (platform) => {
    const { output } = await find({ platform })
    for (const way of [
      'apt install redis-server',
      'brew install redis',
      'apk add redis',
      'REDIS_SERVER_BIN',
    ]) {
      expect(output).toContain(way)
    }
    expect(output).toContain('PATH: neither redis-server nor valkey-server there')
    expect(output).toContain('distribution packages: no apt-get and dpkg here')
    expect(output).toContain(
      platform === 'linux' ? 'docker: no docker daemon answers' : 'docker: only on Linux',
    )
  })

  it('with Windows is told to use WSL', async () => {
    const windows = `data:text/javascript,Object.defineProperty(process,'platform',{value:'win32'})`
    const { code, output } = await runNode(['--import', windows, `${SCRIPTS}launch.mjs`, 'test'])
    expect(output).toContain('Use WSL')
    expect(code).toBe(1)
  })
})

it('two first runs at once share what the first has fetched, which may be in use already', async () => {
  const cache = join(machine, 'cache/redis-stream-client')
  const [slowIsThere, slowMayGo] = [join(machine, 'slow-is-there'), join(machine, 'slow-may-go')]
  await makeDebian(
    `if [ -n "$SLOW" ]; then touch ${slowIsThere}; while [ ! -e ${slowMayGo} ]; do sleep 0.02; done; fi`,
  )
  const slow = find({ env: { SLOW: 'yes' } })
  await eventually(
    'the slow one unpacks',
    () => stat(slowIsThere).catch(() => undefined),
    (found) => found !== undefined,
  )
  expect((await find()).output).toContain('found')
  const folder = (await readdir(cache)).find((name) => !name.startsWith('fetch-')) ?? ''
  const before = await stat(join(cache, folder))
  await writeFile(slowMayGo, '')
  expect((await slow).output).toContain('found')
  expect((await stat(join(cache, folder))).ino).toBe(before.ino)
  expect(await readdir(cache)).toEqual([folder])
})

describe('PostgreSQL for the tests', () => {
  function findPostgres(options: object): Promise<Outcome> {
    const code = `
      const { findPostgres } = await import(${JSON.stringify(`${SCRIPTS}find-postgres.mjs`)})
      try { console.log('found', JSON.stringify(findPostgres({ places: [], ...${JSON.stringify(options)} }))) }
      catch (error) { console.log(error.message) }`
    return runNode(['--input-type=module', '--eval', code])
  }

  it('is taken from PATH', async () => {
    await program('postgres', '#!/bin/sh')
    expect((await findPostgres({})).output).not.toContain('found') // initdb is missing
    await program('initdb', '#!/bin/sh')
    expect((await findPostgres({})).output).toContain(`"binDir":"${join(machine, 'bin')}"`)
  })

  it('is unpacked into the cache folder where that is asked for, and is found there afterwards', async () => {
    const bin = '"$3/usr/lib/postgresql/15/bin"'
    await makeDebian(
      `mkdir -p ${bin}; touch ${bin}/postgres ${bin}/initdb; chmod +x ${bin}/postgres ${bin}/initdb`,
    )
    await program('apt-cache', '#!/bin/sh\necho "  Depends: postgresql-15"')
    expect((await findPostgres({})).output).toContain('neither on PATH nor in the usual places nor in')
    const found = /^found .*cache\/redis-stream-client\/postgresql-.*\/usr\/lib\/postgresql\/15\/bin"/m
    expect((await findPostgres({ download: true })).output).toMatch(found)
    expect((await findPostgres({})).output).toMatch(found)
  })

  it('is said to be missing where it can neither be found nor fetched', async () => {
    const { output } = await findPostgres({ download: true })
    expect(output).toContain('not installed, and no apt-get and dpkg here to fetch it with')
  })
})
