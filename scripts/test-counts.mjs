/** Prints `N passed, N failed` from what vitest's JSON reporter wrote; a file that did not load counts as failed. */
import { existsSync, readFileSync } from 'node:fs'

/** Of `npm test`, and of `npm run test:ioredis5`, which need not have run. */
const FILES = ['vitest.json', 'vitest-ioredis5.json'].map(
  (name) => new URL(`../test-results/${name}`, import.meta.url),
)
const found = FILES.filter((file) => existsSync(file))
let passed = 0
let failed = 0
for (const file of found) {
  const { testResults } = JSON.parse(readFileSync(file, 'utf8'))
  for (const { assertionResults, status } of testResults) {
    passed += assertionResults.filter((test) => test.status === 'passed').length
    const failures = assertionResults.filter((test) => test.status === 'failed').length
    failed += failures === 0 && status === 'failed' ? 1 : failures
  }
}
if (found.length === 0) process.stdout.write('vitest did not run\n')
process.stdout.write(`${passed} passed, ${failed} failed\n`)
