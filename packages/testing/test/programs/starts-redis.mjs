/** Starts a server, says where it is, and then does what the first argument says: `hang`, `forget` or `throw`. */
import { startRedis } from '@redis-stream-client/testing'

const redis = await startRedis()
const { pid, url } = redis
process.stdout.write(`${JSON.stringify({ pid, url })}\n`)
const [how] = process.argv.slice(2)
if (how === 'hang') setInterval(() => {}, 60_000)
if (how === 'throw') throw new Error('a test that fails')
