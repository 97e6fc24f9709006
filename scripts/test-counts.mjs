/** Prints `N passed, N failed` from what vitest's JSON reporter wrote; a file that did not load counts as failed. */
import { existsSync, readFileSync } from 'node:fs'

const file = new URL('../test-results/vitest.json', import.meta.url)
let passed = 0
let failed = 0
if (existsSync(file)) {
  const { testResults } = JSON.parse(readFileSync(file, 'utf8'))
  for (const { assertionResults, status } of testResults) {
    passed += assertionResults.filter((test) => test.status === 'passed').length
    const failures = assertionResults.filter((test) => test.status === 'failed').length
    failed += failures === 0 && status === 'failed' ? 1 : failures
  }
} else {
  process.stdout.write('vitest did not run\n')
}
process.stdout.write(`${passed} passed, ${failed} failed\n`)
