/** Starts an empty Redis server on a free port for one run of the demo or the like. Plain Node without dependencies. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const READY_TIMEOUT_MS = 10_000
const PING_TIMEOUT_MS = 1_000
const PING_EVERY_MS = 20

/** @returns {Promise<{ url: string, stop: () => Promise<void> }>} */
export async function startRedis({ bin, env }) {
  const dir = mkdtempSync(join(tmpdir(), 'rsc-'))
  const port = await freePort()
  const args = ['--port', `${port}`, '--bind', '127.0.0.1', '--dir', dir, '--save', '', '--appendonly', 'yes']
  // In a process group of its own: Ctrl-C is for the programs, which want to say goodbye to their server.
  const child = spawn(bin, args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  let output = ''
  child.stdout.on('data', (chunk) => {
    output = `${output}${chunk}`.slice(-4_000)
  })
  child.stderr.resume()
  const exited = new Promise((resolve) => child.once('exit', resolve).once('error', resolve))
  const clear = () => {
    child.kill('SIGKILL')
    rmSync(dir, { recursive: true, force: true })
  }
  process.once('exit', clear)
  const stop = async () => {
    clear()
    await exited
    process.off('exit', clear)
  }
  const deadline = Date.now() + READY_TIMEOUT_MS
  while (!(await answersPing(port))) {
    const isGone = child.exitCode !== null || child.pid === undefined
    if (isGone || Date.now() > deadline) {
      await stop()
      throw new Error(`${bin} did not start on port ${port}:\n${output}`)
    }
    await sleep(PING_EVERY_MS)
  }
  return { url: `redis://127.0.0.1:${port}`, stop }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

function answersPing(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.setTimeout(PING_TIMEOUT_MS, () => socket.destroy())
    socket.once('connect', () => socket.write('PING\r\n'))
    socket.once('data', (answer) => {
      resolve(answer.toString().startsWith('+PONG'))
      socket.destroy()
    })
    socket.on('error', () => {})
    socket.once('close', () => resolve(false))
  })
}
