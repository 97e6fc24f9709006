/** Without this a run with ioredis 5 could silently be one with 6. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { Redis } from 'ioredis'
import { expect, it } from 'vitest'

const asked = process.env['IOREDIS'] ?? '6'
/** Version 6 has an option for the protocol. */
const PROGRAM = `
  import { Redis } from 'ioredis'
  console.log('protocol' in new Redis({ lazyConnect: true }).options ? '6' : '5')
`

it('the ioredis of this run is the one that was asked for, in processes it starts as well', async () => {
  expect('protocol' in new Redis({ lazyConnect: true }).options ? '6' : '5').toBe(asked)
  const started = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', PROGRAM], {
    cwd: import.meta.dirname,
  })
  expect(started.stdout.trim()).toBe(asked)
})
