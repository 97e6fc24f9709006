/** The frame of every host process: reads commands from stdin, answers on stdout, ends when stdin ends. */
import { createInterface } from 'node:readline'
import type { Heap, HostCommand, JoinOptions } from '../host-protocol.js'
import { Ledger } from './ledger.js'
import { LoopMeter } from './loop-meter.js'
import { say } from './say.js'

export interface HostMember {
  leave(): Promise<void>
  /** Reads the signal of every stream the member owns, where streams have signals. */
  readSignals?(): void
}

/** Makes a member; resolves when it is ready to be given streams. */
export type Join = (member: string, options: JoinOptions, ledger: Ledger) => Promise<HostMember>

export function serve(join: Join): void {
  const members = new Map<string, { member: HostMember; ledger: Ledger }>()
  const meter = new LoopMeter()

  async function obey(command: HostCommand): Promise<unknown> {
    switch (command.call) {
      case 'join': {
        const ledger = new Ledger(command.member, command)
        members.set(command.member, { member: await join(command.member, command, ledger), ledger })
        return undefined
      }
      case 'leave': {
        const { ledger, member } = find(command.member)
        await member.leave()
        ledger.flush()
        members.delete(command.member)
        return undefined
      }
      case 'times':
        return find(command.member).ledger.times
      case 'signals':
        find(command.member).member.readSignals?.()
        return undefined
      case 'measure':
        meter.begin(command.watchesLoop)
        return undefined
      case 'report':
        return meter.report()
      case 'collect':
        return collect()
      default:
        return command satisfies never
    }
  }

  function find(name: string): { member: HostMember; ledger: Ledger } {
    const found = members.get(name)
    if (found === undefined) throw new Error(`no member ${name} has joined`)
    return found
  }

  createInterface({ input: process.stdin }).on('line', (text) => {
    const { n, ...command } = JSON.parse(text) as HostCommand & { n: number }
    obey(command as HostCommand).then(
      (result) => say({ type: 'answer', n, result }),
      (error: unknown) => say({ type: 'answer', n, error: String(error) }),
    )
  })
  process.stdin.once('end', () => process.exit())
  say({ type: 'ready' })
}

/** Needs --expose-gc. Twice, because what one collection finalizes the next one frees. */
function collect(): Heap {
  for (let i = 0; i < 2; i++) (globalThis as { gc?: () => void }).gc?.()
  const { heapUsed, rss } = process.memoryUsage()
  return {
    heapUsed,
    rss,
    handles: process.getActiveResourcesInfo().filter((kind) => kind !== 'Timeout').length,
  }
}
