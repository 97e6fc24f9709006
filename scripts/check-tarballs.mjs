/**
 * `npm run tarballs`: whether the packages work as they are published. Packs them, installs the tarballs into new projects
 * with npm, and uses them there as ESM, as CommonJS, under Jest, from a bundle, and from TypeScript in each of its
 * module modes; once with each major version of ioredis that the packages allow.
 */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { reasonOf, run } from '../packages/testing/src/server/command.js'

const IOREDIS = ['6.0.0', '5.11.1']
const TOOLS = {
  '@types/node': '20.19.43',
  esbuild: '0.28.1',
  jest: '29.7.0',
  typescript: '5.9.3',
}
const PACKAGES = ['notifs', 'client', 'handling', 'worker', 'testing']
/** How TypeScript finds modules, and the `type` in the package.json of the project. */
const TYPESCRIPT_MODES = [
  { module: 'nodenext', moduleResolution: 'nodenext', type: 'module' },
  { module: 'nodenext', moduleResolution: 'nodenext', type: 'commonjs' },
  { module: 'node16', moduleResolution: 'node16', type: 'module' },
  { module: 'node16', moduleResolution: 'node16', type: 'commonjs' },
  { module: 'esnext', moduleResolution: 'bundler', type: 'module' },
  { module: 'commonjs', moduleResolution: 'node10', type: 'commonjs' },
]
/** In an ESM bundle, dependencies that are CommonJS need a `require`. */
const REQUIRE = `import{createRequire}from'node:module';const require=createRequire(import.meta.url);`
const BUNDLES = [
  { format: 'esm', from: 'esm.mjs', to: 'bundle/bundle.mjs', options: [`--banner:js=${REQUIRE}`] },
  { format: 'cjs', from: 'commonjs.cjs', to: 'bundle/bundle.cjs', options: [] },
]

const root = fileURLToPath(new URL('..', import.meta.url))
const scratch = mkdtempSync(join(tmpdir(), 'tarballs-'))
let failed = 0

try {
  const tarballs = pack()
  for (const version of IOREDIS) {
    const project = makeProject(version, tarballs)
    for (const [name, use] of usesOf(project)) check(`ioredis ${version}, ${name}`, use)
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
process.exitCode = failed > 0 ? 1 : 0

function pack() {
  const folder = join(scratch, 'packed')
  mkdirSync(folder)
  for (const name of PACKAGES) {
    run('pnpm', ['pack', '--pack-destination', folder], { cwd: join(root, 'packages', name) })
  }
  return readdirSync(folder).map((file) => join(folder, file))
}

/** A project as an application has it, which knows nothing of this workspace. */
function makeProject(ioredis, tarballs) {
  const folder = join(scratch, `ioredis-${ioredis}`)
  cpSync(join(root, 'test/tarballs'), folder, { recursive: true })
  writeFileSync(join(folder, 'recipe.test.js'), recipeForJest())
  const ours = Object.fromEntries(tarballs.map((path) => [nameOf(path), `file:${path}`]))
  writeManifest(folder, { dependencies: { ...ours, ioredis }, devDependencies: TOOLS, overrides: ours })
  run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline'], { cwd: folder, timeout: 300_000 })
  return folder
}

/** As it stands in the guide. */
function recipeForJest() {
  const guide = readFileSync(join(root, 'docs/guides/testing.md'), 'utf8')
  return /^```js\n([\s\S]*?)^```/m.exec(guide.slice(guide.indexOf('\n### Jest\n')))[1]
}

function nameOf(tarball) {
  return `@redis-stream-client/${/redis-stream-client-([a-z]+)-\d/.exec(tarball)[1]}`
}

function writeManifest(folder, manifest) {
  writeFileSync(
    join(folder, 'package.json'),
    JSON.stringify({ name: 'application', private: true, ...manifest }),
  )
}

function usesOf(folder) {
  const node = (...args) => run(process.execPath, args, { cwd: folder })
  const bin = (name, ...args) => run(join(folder, 'node_modules/.bin', name), args, { cwd: folder })
  return [
    ['ESM', () => node('esm.mjs')],
    ['CommonJS', () => node('commonjs.cjs')],
    ['Jest', () => bin('jest', '--rootDir', folder)],
    ...BUNDLES.map(({ format, from, to, options }) => [
      `bundled by esbuild as ${format}`,
      () => {
        bin(
          'esbuild',
          from,
          '--bundle',
          '--platform=node',
          '--tsconfig-raw={}', // not one from a folder above
          `--format=${format}`,
          `--outfile=${to}`,
          ...options,
        )
        node(to)
      },
    ]),
    ...TYPESCRIPT_MODES.map((mode) => [
      `TypeScript, module ${mode.module}, resolution ${mode.moduleResolution}, in a project of type ${mode.type}`,
      () => bin('tsc', '--project', typescriptProject(folder, mode)),
    ]),
  ]
}

function typescriptProject(folder, { module, moduleResolution, type }) {
  const project = join(folder, `typescript-${module}-${type}`)
  mkdirSync(project)
  cpSync(join(folder, 'service.ts'), join(project, 'service.ts'))
  writeManifest(project, { type })
  const compilerOptions = {
    ...{ module, moduleResolution, target: 'es2022', strict: true, types: ['node'], noEmit: true },
    esModuleInterop: true, // asked for by the types of pino
  }
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions }))
  return project
}

function check(name, use) {
  try {
    use()
    console.log(`works: ${name}`)
  } catch (error) {
    failed++
    console.error(`FAILS: ${name}: ${reasonOf(error)}\n${error?.stdout ?? ''}${error?.stderr ?? ''}`)
  }
}
