import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

export default defineConfig({
  resolve: {
    // The sources, so that coverage speaks of them. Fixtures run as processes of their own take the built dist.
    alias: [
      { find: /^@redis-stream-client\/notifs$/, replacement: at('packages/notifs/src/index.ts') },
      {
        find: /^@redis-stream-client\/notifs\/internal$/,
        replacement: at('packages/notifs/src/internal.ts'),
      },
      { find: /^@redis-stream-client\/client$/, replacement: at('packages/client/src/index.ts') },
      {
        find: /^@redis-stream-client\/client\/internal$/,
        replacement: at('packages/client/src/internal.ts'),
      },
      {
        find: /^@redis-stream-client\/handling$/,
        replacement: at('packages/handling/src/index.ts'),
      },
      { find: /^@redis-stream-client\/worker$/, replacement: at('packages/worker/src/index.ts') },
      {
        find: /^@redis-stream-client\/worker\/internal$/,
        replacement: at('packages/worker/src/internal.ts'),
      },
      { find: /^@redis-stream-client\/testing$/, replacement: at('packages/testing/src/index.ts') },
      {
        find: /^@redis-stream-client\/testing\/internal$/,
        replacement: at('packages/testing/src/internal.ts'),
      },
      { find: /^@redis-stream-client\/test\/support\/(.*)$/, replacement: at('test/src/support/$1.ts') },
    ],
  },
  test: {
    include: [
      'packages/*/test/**/*.test.ts',
      'bench/test/**/*.test.ts',
      'examples/test/**/*.test.ts',
      'faults/test/**/*.test.ts',
      'test/**/*.test.ts',
    ],
    exclude: ['**/node_modules/**', '**/dist/**'],
    globalSetup: ['scripts/vitest-setup.mjs'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    reporters: [
      'default',
      ['json', { outputFile: process.env['VITEST_RESULTS'] ?? 'test-results/vitest.json' }],
    ],
    coverage: {
      provider: 'v8',
      include: ['packages/*/src/**/*.ts'],
      reporter: ['text', 'lcov'],
      thresholds: { branches: 90 },
    },
  },
})
