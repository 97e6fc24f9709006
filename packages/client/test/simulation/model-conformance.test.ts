/**
 * The model is a server like the real one: the same commands in any order get the same answers and leave the same
 * state on both. What the simulations find is worth as much as this.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { HeartbeatLock } from '../../src/redis/heartbeat-lock.js'
import { ScriptedService } from '../support/scripted-service.js'
import { modelSide } from './model-side.js'
import { Random } from './random.js'
import { type Jobs, ServiceCommands, Side } from './service-commands.js'

const SEQUENCES = Number(process.env['SIMULATION_SEQUENCES'] ?? 40)
const COMMANDS = 60
const FIRST_SEED = Number(process.env['SIMULATION_SEED'] ?? 1)

let service: ScriptedService
let added = 0
const jobs: Jobs = { add: () => added++, deleted: () => undefined }

beforeAll(async () => {
  service = await ScriptedService.start()
})
afterAll(() => service[Symbol.asyncDispose]())

describe('the model', () => {
  it('answers and keeps what Redis answers and keeps, whatever the order of commands', async () => {
    for (let seed = FIRST_SEED; seed < FIRST_SEED + SEQUENCES; seed++) {
      await service.reset()
      const real = new Side(service.connection, service.keys)
      const model = modelSide(service.keys)
      model.server.write((data) => data.xgroupCreate(service.keys.lbs, service.keys.group))
      const commands = new ServiceCommands(new Random(seed), [real, model.side], jobs)
      const history: string[] = []
      for (let count = 0; count < COMMANDS; count++) {
        const { answers, text } = await commands.next()
        history.push(text)
        const told = `seed ${seed}: ${history.join('; ')}`
        expect(model.side.canonical(answers[1] ?? null), told).toBe(real.canonical(answers[0] ?? null))
        expect(await model.side.state(), told).toBe(await real.state())
      }
    }
  }, 300_000)

  it('takes, extends and gives up the lock of a session as Redis does', async () => {
    await service.reset()
    const { server, side } = modelSide(service.keys)
    const key = service.keys.heartbeat('a')
    const answers = await Promise.all(
      [service.connection, side.connection].map((connection) =>
        connection.run(async (redis) => {
          const [first, second] = [new HeartbeatLock(redis, key, 5000), new HeartbeatLock(redis, key, 5000)]
          const taken = [typeof (await first.acquire()), await second.acquire(), await first.extend()]
          await redis.del(key)
          return [...taken, await first.extend(), typeof (await second.acquire()), await first.extend()]
        }),
      ),
    )
    expect(answers[1]).toEqual(answers[0])
    expect(answers[0]).toEqual(['string', null, true, false, 'string', false])
    expect(server.data.pttl(key)).toBeGreaterThan(0)
  })
})
