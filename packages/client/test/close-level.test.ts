/** What a client that closes tells the others about how many streams each is to have. */
import { afterAll, beforeAll, beforeEach, expect, it, vi } from 'vitest'
import { formatConsumer } from '../src/decisions/consumer-name.js'
import { levelWithout } from '../src/shutdown.js'
import { ScriptedService } from './support/scripted-service.js'
import { silentLogger } from './support/silent-logger.js'

let service: ScriptedService
beforeAll(async () => {
  service = await ScriptedService.start()
})
afterAll(() => service[Symbol.asyncDispose]())
beforeEach(() => service.reset())

it('is what it reads of the others, or in a crowd what the last round has found, less itself', async () => {
  const [a] = [await service.session('a', 't'), await service.session('b', 't')]
  for (let i = 0; i < 6; i++) await service.add(`s${i}`)
  await service.read(a, 6)
  const read = vi.spyOn(service.scripts, 'roster')
  const level = () => levelWithout(formatConsumer(a), service.scripts, silentLogger)
  expect(await level()).toEqual({ level: 6, living: 1, firstLevel: null })
  await service.redis.set(service.keys.level, '99 50 - 0')
  expect(await level()).toEqual({ level: 6, living: 1, firstLevel: null })
  expect(read).toHaveBeenCalledTimes(2)
  await service.redis.set(service.keys.level, '99 100 - 0')
  expect(await level()).toEqual({ level: 100, living: 99, firstLevel: null })
  expect(read).toHaveBeenCalledTimes(2)
})
