/** The program that proves `Program`: says what it was started with, then repeats what it is told. */
import { createInterface } from 'node:readline'

function say(line: unknown): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

say({ type: 'ready', args: process.argv.slice(2), env: process.env['ECHO'] })
createInterface({ input: process.stdin }).on('line', (text) => say(JSON.parse(text)))
