/**
 * A worker in a process of its own, to be killed, stopped and told to leave. Its one argument says what to connect to
 * and how the handler behaves. It runs the built package, as an application would.
 *
 * What the handler sees goes into the list `log:<data stream>` as `<record id> <fence> <attempt> <committed id> <ms>`,
 * unless a greater fence was seen there: that is how the systems behind a handler keep out a former owner.
 */
import { StreamWorker } from '@redis-stream-client/worker'
import { Redis } from 'ioredis'
import { pino } from 'pino'

const NOTE = `
local stream, id, fence, attempt = unpack(ARGV)
if tonumber(redis.call('HGET', KEYS[2], stream) or 0) > tonumber(fence) then return 0 end
redis.call('HSET', KEYS[2], stream, fence)
local committed = string.match(redis.call('HGET', KEYS[3], stream) or '', '"id":"([^"]+)"') or '0-0'
local now = redis.call('TIME')
redis.call('RPUSH', KEYS[1], table.concat({ id, fence, attempt, committed, math.floor(now[1] * 1000 + now[2] / 1000) }, ' '))
return 1`

const {
  client,
  failEvery = 0,
  hangsAtLetters = false,
  handlerMs = 0,
  killAt,
  kills = 1000,
  options = {},
  pausesAll = false,
  service,
  url,
} = JSON.parse(process.argv[2])
const redis = new Redis(url)
redis.on('error', () => undefined)
const stop = new AbortController()
let handled = 0

const worker = new StreamWorker(redis, service, {
  logger: pino({ level: process.env.LOG_LEVEL ?? 'silent' }, pino.destination(2)),
  ...options,
  ...(hangsAtLetters ? { onDeadLetter: hang } : {}),
  client,
  async process(record, { attempt, stream: { dataStreamName, fencingToken } }) {
    const keys = [`log:${dataStreamName}`, 'log-fences', `${service}-checkpoints`]
    await redis.eval(NOTE, 3, ...keys, dataStreamName, record.id, fencingToken, attempt)
    if (killAt?.includes(record.fields.n) && (await redis.hincrby('kills', record.fields.n, 1)) <= kills) {
      process.kill(process.pid, 'SIGKILL')
    }
    if (handlerMs > 0) await new Promise((resolve) => setTimeout(resolve, Math.random() * handlerMs * 2))
    handled++
    if (failEvery > 0 && handled % failEvery === 0) throw new Error('every now and then')
  },
})

async function hang(letter) {
  await redis.rpush('told', letter.recordId)
  await new Promise(() => undefined)
}

function say(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

async function pause(dataStreamName) {
  await worker.pause(dataStreamName, { keep: true })
  say({ type: 'paused' })
}

let isReady = false
worker.on('streamStarted', ({ dataStreamName }) => {
  if (!isReady) say({ type: 'ready' })
  isReady = true
  if (pausesAll) void pause(dataStreamName)
})
process.once('SIGTERM', () => stop.abort())
process.stdin.resume().once('end', () => process.exit())
say({ type: 'started' })
await worker.run({ signal: stop.signal })
say({ type: 'closed', handled })
process.exit()
