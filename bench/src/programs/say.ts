import type { HostLine } from '../host-protocol.js'

/** Tells the bench something. */
export function say(line: HostLine): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}
