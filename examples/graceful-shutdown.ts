/**
 * Leaving without a gap: on SIGTERM an owner commits where it is and releases its stream, and another carries on from
 * there at once, without waiting for anything to expire.
 *
 * Run without arguments, the program adds a data stream with 40 orders and starts itself twice as a packer; when the
 * first has packed some orders, it gets SIGTERM.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { LbsProducer, type OwnedStream, RedisStreamClient } from '@redis-stream-client/client'
import { Redis } from 'ioredis'

const SERVICE = 'packing'
const ORDERS = 40
const PACKED_BEFORE_SIGTERM = 10
const PACKING_MS = 40

const redis = new Redis(process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379')
const [role] = process.argv.slice(2)
if (role === 'packer') await pack()
else await show()
redis.disconnect()
process.disconnect?.()

/** A packer: what a service would do. */
async function pack(): Promise<void> {
  const client = new RedisStreamClient(redis, SERVICE)
  process.once('SIGTERM', () => void client.close())
  process.once('disconnect', () => process.exit()) // whoever started the packer is gone
  const notifications = await client.init()
  say('is ready')
  for await (const notification of notifications) {
    if (notification.type === 'StreamAdded') void packAll(notification.stream).catch(complain)
    if (notification.type === 'StreamExpired') {
      void client.claim(notification.payload).then(packAll).catch(complain)
    }
  }
}

async function packAll(stream: OwnedStream): Promise<void> {
  const { checkpoint, dataStreamName, signal } = stream
  say(`owns ${dataStreamName}, begins ${checkpoint === null ? 'at the start' : 'at the checkpoint'}`)
  let position = checkpoint ?? '-'
  // Having read the signal, we are asked when the client closes, and waited for.
  while (!signal.aborted) {
    const [order] = await redis.xrange(
      dataStreamName,
      position === '-' ? '-' : `(${position}`,
      '+',
      'COUNT',
      1,
    )
    if (order === undefined) return await stream.done()
    await sleep(PACKING_MS) // an order that was begun is finished, signal or not
    position = order[0]
    say(`packs order ${order[1]?.[1]}`)
  }
  if (!stream.owned) return // not asked but disowned: somebody else has it already
  await stream.commit(position)
  await stream.release()
  say('has committed and released')
}

/** For example that another packer has claimed the stream, or that the session is lost. */
function complain(error: Error): void {
  say(error.message)
}

/** What the packer tells: a line, and where the show listens. */
function say(text: string): void {
  process.send?.(text)
}

/** Has the first packer leave in the middle, and the second carry on. */
async function show(): Promise<void> {
  const stream = `orders:${Date.now().toString(36)}`
  for (let order = 1; order <= ORDERS; order++) await redis.xadd(stream, '*', 'order', order)

  const first = await start('packer-1')
  await new LbsProducer(redis, SERVICE).add(stream)
  await told(first, `packs order ${PACKED_BEFORE_SIGTERM}`)
  const second = await start('packer-2')
  console.log('packer-1 gets SIGTERM')
  first.kill('SIGTERM')
  const [code] = (await once(first, 'exit')) as [number | null]
  console.log(`packer-1 has left with exit code ${code}`)

  await told(second, `packs order ${ORDERS}`)
  second.kill('SIGTERM')
  await once(second, 'exit')
  await redis.del(stream)
}

/** Starts a packer and waits until it is ready. */
async function start(name: string): Promise<ChildProcess> {
  const packer = fork(fileURLToPath(import.meta.url), ['packer'], { env: { ...process.env, POD_NAME: name } })
  process.once('exit', () => packer.kill('SIGKILL'))
  packer.on('message', (text) => console.log(name, text))
  await told(packer, 'is ready')
  return packer
}

/** Resolves when the packer tells this; rejects if it does not within 20 s. */
async function told(packer: ChildProcess, wanted: string): Promise<void> {
  const signal = AbortSignal.timeout(20_000)
  for (;;) {
    const [text] = (await once(packer, 'message', { signal })) as [string]
    if (text === wanted) return
  }
}
