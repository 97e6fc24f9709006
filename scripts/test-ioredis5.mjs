/**
 * `npm run test:ioredis5`: the tests of everything that speaks to a server, with ioredis 5 instead of 6, in the processes
 * that they start as well.
 */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const hooks = new URL('use-ioredis5.mjs', import.meta.url)
const TESTS = ['packages/client/test/', 'packages/worker/test/', 'test/topology-']
/** What is played with a model of ioredis, and what reads the documentation. */
const EXCEPT = ['packages/client/test/simulation/**', '**/docs*.test.ts']

const child = spawn(
  process.execPath,
  [
    `${root}node_modules/vitest/vitest.mjs`,
    'run',
    ...TESTS,
    ...EXCEPT.map((glob) => `--exclude=${glob}`),
    ...process.argv.slice(2),
  ],
  {
    cwd: root,
    env: {
      ...process.env,
      IOREDIS: '5',
      NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --import ${hooks}`,
      VITEST_RESULTS: 'test-results/vitest-ioredis5.json',
    },
    stdio: 'inherit',
  },
)
child.once('close', (code) => {
  process.exitCode = code ?? 1
})
