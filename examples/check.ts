/**
 * `npm run examples`: runs every example against the server at REDIS_URL and checks what it does. The demo checks
 * itself: `npm run demo`.
 */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { killAll, Program } from './check/program.js'

const ROOT = new URL('../../', import.meta.url)

process.once('exit', killAll)
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

await check('quickstart reads three data streams in order and ends by itself', async () => {
  const program = new Program('quickstart')
  assert.equal(await program.exit(), 0)
  const readings = program.found(/^(temperatures:\w+) degrees (\d+)$/)
  for (const name of ['temperatures:Lagos', 'temperatures:Lima', 'temperatures:Oslo']) {
    const degrees = readings.filter(([, of]) => of === name).map(([, , value]) => value)
    assert.deepEqual(degrees, ['19', '21', '23'], name)
  }
  assert.match(program.lines.at(-1) ?? '', /handed its streams over and closed/)
})

await check(
  'graceful-shutdown packs every order once, though the first packer leaves in the middle',
  async () => {
    const program = new Program('graceful-shutdown')
    assert.equal(await program.exit(), 0)
    const packed = program.found(/^(packer-\d) packs order (\d+)$/)
    assert.deepEqual(
      packed.map(([, , order]) => Number(order)),
      Array.from({ length: 40 }, (_, index) => index + 1),
    )
    const byFirst = packed.filter(([, packer]) => packer === 'packer-1').length
    assert.ok(byFirst >= 10 && byFirst < 40, `packer-1 packed ${byFirst}`)
    assert.equal(program.found(/^packer-1 has committed and released$/).length, 1)
    assert.equal(program.found(/^packer-1 has left with exit code 0$/).length, 1)
    assert.equal(program.found(/^packer-2 owns .* begins at the checkpoint$/).length, 1)
  },
)

await check('load-balancing adds up every meter once, though a consumer is killed', async () => {
  const [meters, readings] = [9, 60]
  const consumers = [1, 2, 3].map(
    (n) => new Program('load-balancing/consumer', { POD_NAME: `consumer-${n}` }),
  )
  for (const consumer of consumers) await consumer.matches(/redis-consumer-consumer-\d is ready/)
  const producer = new Program('load-balancing/producer', {
    METERS: String(meters),
    READINGS: String(readings),
    EVERY_MS: '50',
  })
  const [victim, ...survivors] = consumers as [Program, ...Program[]]
  const owned = await victim.matches(/(meter:\S+) is ours, from reading 1 on/)
  await producer.matches(/added/, meters)
  victim.kill('SIGKILL')
  assert.equal(await victim.exit(), 'SIGKILL')

  assert.equal(await producer.exit(), 0)
  const kwh = (readings * (readings + 1)) / 2
  const isDone = new RegExp(`(meter:\\S+) is done: ${readings} readings, ${kwh} kWh`)
  const deadlineMs = performance.now() + 30_000
  const done = (): string[] => consumers.flatMap((each) => each.found(isDone)).map(([, meter = '']) => meter)
  while (done().length < meters && performance.now() < deadlineMs) await sleep(50)
  const added = producer.found(/added (meter:\S+)/).map(([, meter = '']) => meter)
  assert.deepEqual(done().sort(), added.sort())
  const taken = survivors.flatMap((each) => each.found(/(meter:\S+) has lost redis-consumer-consumer-1/))
  const offered = new Set(taken.map(([, meter]) => meter))
  for (const [, meter] of owned) assert.ok(offered.has(meter), `${meter} was not offered to the survivors`)

  for (const survivor of survivors) survivor.kill('SIGTERM')
  for (const survivor of survivors) assert.equal(await survivor.exit(), 0)
})

await check('worker handles every order once, in order, with two services', async () => {
  const services = [1, 2].map((n) => new Program('worker/service', { POD_NAME: `service-${n}` }))
  for (const service of services) await service.matches(/ begins$/) // it hears SIGTERM from then on
  const producer = new Program('worker/producer')
  assert.equal(await producer.exit(), 0)
  const regions = ['asia', 'eu', 'us']
  const ordersOf = (region: string): number[] =>
    services
      .flatMap((service) => service.found(/^(orders-\w+) \S+ \{ order: (\d+) \} attempt 1$/))
      .filter(([, stream]) => stream === `orders-${region}`)
      .map(([, , order]) => Number(order))
  const deadlineMs = performance.now() + 30_000
  const isDone = (): boolean => regions.every((region) => ordersOf(region).length >= 10)
  while (!isDone() && performance.now() < deadlineMs) await sleep(50)
  const inOrder = Array.from({ length: 10 }, (_, index) => index + 1)
  for (const region of regions) assert.deepEqual(ordersOf(region), inOrder, region)
  for (const service of services) service.kill('SIGTERM')
  for (const service of services) assert.equal(await service.exit(), 0)
})

await check('docker-compose.yml starts programs that exist', async () => {
  const compose = readFileSync(new URL('docker-compose.yml', ROOT), 'utf8')
  const programs = [...compose.matchAll(/node (\S+\.js)/g)].map(([, path = '']) => path)
  assert.equal(programs.length, 2)
  for (const path of programs) assert.ok(existsSync(new URL(path, ROOT)), `${path} does not exist`)
})

async function check(what: string, act: () => Promise<void>): Promise<void> {
  const startMs = performance.now()
  try {
    await act()
    console.log(`ok      ${what} (${((performance.now() - startMs) / 1000).toFixed(1)} s)`)
  } catch (error) {
    console.log(`failed  ${what}\n${String((error as Error).stack)}\n`)
    process.exitCode = 1
  } finally {
    killAll()
  }
}
