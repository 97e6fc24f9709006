/** Packages of Debian and Ubuntu, downloaded and unpacked into a folder: nothing is installed and no root is needed. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { reasonOf, run, runs } from './command.js'

/** Libraries that every system has, and that must match the system's own. */
const SYSTEM_LIBRARIES = /^lib(c6|gcc|stdc)/
const OS_RELEASE = '/etc/os-release'

/** True if there are such packages, and the programs that fetch and unpack them. */
export function hasDebianPackages() {
  return process.platform === 'linux' && runs('apt-get', ['--version']) && runs('dpkg', ['--version'])
}

/** Name and version of the distribution, such as `debian-12`: what was unpacked must not outlive an upgrade of it. */
export function distribution() {
  const release = existsSync(OS_RELEASE) ? readFileSync(OS_RELEASE, 'utf8') : ''
  const field = (/** @type {string} */ name) => new RegExp(`^${name}="?([^"\n]*)`, 'm').exec(release)?.[1]
  return `${field('ID')}-${field('VERSION_ID') ?? field('VERSION_CODENAME')}`
}

/**
 * Unpacks packages and the libraries that they depend on into `root`, with the system's package lists or, where those are
 * missing or old, with lists of our own in `scratch`. Throws what is in the way.
 * @param {(aptOptions: readonly string[]) => readonly string[]} packages Which ones: asked with the options that lead to the lists.
 * @param {{ root: string, scratch: string, except?: RegExp }} options `except`: libraries that are left out.
 */
export function unpackDebianPackages(packages, { root, scratch, except = /^$/ }) {
  const download = (/** @type {readonly string[]} */ aptOptions) => {
    const wanted = withLibraries(packages(aptOptions), aptOptions, SYSTEM_LIBRARIES).filter(
      (name) => !except.test(name),
    )
    run('apt-get', [...aptOptions, 'download', ...wanted], { cwd: scratch })
  }
  try {
    download([])
  } catch (systemError) {
    const config = writeAptConfig(scratch)
    try {
      run('apt-get', ['-c', config, 'update'], { cwd: scratch })
      download(['-c', config])
    } catch (error) {
      throw new Error(`${reasonOf(error)} (and with the system's package lists: ${reasonOf(systemError)})`)
    }
  }
  for (const name of readdirSync(scratch).filter((file) => file.endsWith('.deb'))) {
    run('dpkg', ['-x', join(scratch, name), root])
  }
}

/** A configuration file, because only `#clear` removes hooks: they would act on the state of the machine. */
function writeAptConfig(/** @type {string} */ scratch) {
  const state = join(scratch, 'apt')
  for (const folder of ['lists/partial', 'cache/archives/partial']) {
    mkdirSync(join(state, folder), { recursive: true })
  }
  const config = join(scratch, 'apt.conf')
  writeFileSync(
    config,
    [
      `Dir::State::lists "${join(state, 'lists')}";`,
      `Dir::Cache "${join(state, 'cache')}";`,
      'APT::Sandbox::User "";',
      '#clear APT::Update::Pre-Invoke;',
      '#clear APT::Update::Post-Invoke;',
      '#clear APT::Update::Post-Invoke-Success;',
      '',
    ].join('\n'),
  )
  return config
}

/**
 * The packages, and every library that they or their libraries depend on.
 * @param {readonly string[]} packages
 * @param {readonly string[]} aptOptions
 * @param {RegExp} [except] Libraries that are left out, with those that they alone depend on.
 */
export function withLibraries(packages, aptOptions, except = /^$/) {
  const wanted = new Set(packages)
  for (let fresh = [...packages]; fresh.length > 0; ) {
    const found = run('apt-cache', [...aptOptions, 'depends', '--important', ...fresh])
      .split('\n')
      .map((line) => /^\s*\|?(?:Pre)?Depends: ((?:lib|lua)\S+)$/.exec(line)?.[1])
      .filter((name) => name !== undefined)
    fresh = [...new Set(found)].filter((name) => !except.test(name) && !wanted.has(name))
    for (const name of fresh) wanted.add(name)
  }
  return [...wanted]
}
