/** The recipes of docs/guides/testing.md are run as they stand there. That for Jest is run by `npm run tarballs`. */
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const VITEST = join(ROOT, 'node_modules/vitest/vitest.mjs')
const TIMEOUT_MS = 100_000

let folder: string

beforeEach(async () => {
  // Beside this file, so that it finds the packages.
  folder = await mkdtemp(fileURLToPath(new URL('recipe-', import.meta.url)))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

/** The first block of code after a heading of the guide. */
async function recipe(heading: string): Promise<string> {
  const text = await readFile(join(ROOT, 'docs/guides/testing.md'), 'utf8')
  const code = /^```\w+\n([\s\S]*?)^```/m.exec(text.slice(text.indexOf(`\n### ${heading}\n`)))?.[1]
  if (code === undefined) throw new Error(`there is no recipe for ${heading}`)
  return code
}

async function run(file: string, code: string, args: readonly string[]): Promise<string> {
  await writeFile(join(folder, file), code)
  await writeFile(join(folder, 'vitest.config.mjs'), 'export default {}') // not that of a folder above
  const env = { ...process.env, NODE_TEST_CONTEXT: undefined, VITEST: undefined, NO_COLOR: '1' }
  return await new Promise((resolve) => {
    execFile(process.execPath, args, { cwd: folder, env }, (error, stdout, stderr) =>
      resolve(`${stdout}${stderr}${error === null ? '' : `\nexit code ${error.code}`}`),
    )
  })
}

test(
  'the recipe for vitest works',
  async () => {
    const output = await run('orders.test.ts', await recipe('vitest'), [VITEST, 'run', '--root', folder])
    expect(output).toMatch(/Tests +1 passed/)
    expect(output).not.toContain('exit code')
  },
  TIMEOUT_MS,
)

test(
  'the recipe for node:test works',
  async () => {
    const output = await run('orders.test.mjs', await recipe('node:test'), ['--test'])
    expect(output).toMatch(/pass 1$/m)
    expect(output).not.toContain('exit code')
  },
  TIMEOUT_MS,
)
