import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { BenchLine } from '../src/bench-run.js'
import { writeResults } from '../src/results-file.js'
import { runInProcess } from '../src/scenario-process.js'

const LIMIT_MS = 20_000
const STEP = "process.send({ type: 'step', text: process.argv[2] + ' ' + NaN })"

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'rsc-'))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

async function play(
  source: string,
  limitMs = LIMIT_MS,
): Promise<{ failure: string | null; heard: BenchLine[] }> {
  const program = join(dir, 'program.mjs')
  await writeFile(program, source)
  const heard: BenchLine[] = []
  const failure = await runInProcess('growth', { limitMs, hear: (line) => heard.push(line), program })
  return { failure, heard }
}

describe('a scenario in a process of its own', () => {
  it('is heard, and is over when its process ends', async () => {
    const { failure, heard } = await play(`${STEP}; process.disconnect()`)
    expect(failure).toBeNull()
    expect(heard).toEqual([{ type: 'step', text: 'growth NaN' }])
  })

  it('that dies of an error event nobody hears has failed with that error, and what it said stays', async () => {
    const { failure, heard } = await play(`
      import { EventEmitter } from 'node:events'
      ${STEP}
      setTimeout(() => new EventEmitter().emit('error', new Error('Command queue state error')), 20)
      setInterval(() => {}, 1000)`)
    expect(failure).toBe('Error: Command queue state error')
    expect(heard).toHaveLength(1)
  })

  it('that hangs is ended, and has failed', async () => {
    const { failure } = await play('setInterval(() => {}, 1000)', 300)
    expect(failure).toBe('it was not over after 300 ms')
  })

  it('that is killed says by what', async () => {
    const { failure } = await play("process.kill(process.pid, 'SIGKILL')")
    expect(failure).toBe('its process ended with SIGKILL')
  })
})

describe('the file of results', () => {
  it('holds what has been measured so far, and says when the run was over', async () => {
    const file = join(dir, 'results.json')
    const machine = { cores: 2, platform: 'linux', node: '20', redis: '7', summary: '' }
    const results = { startedAt: 'now', machine, figures: [], notes: [] }
    for (const isComplete of [false, true]) {
      writeResults(file, { ...results, isComplete })
      expect(JSON.parse(await readFile(file, 'utf8'))).toMatchObject({ isComplete, figures: [] })
    }
  })
})
