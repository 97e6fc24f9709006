/** Colours, on a terminal that may have them: see https://no-color.org */
const CODES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const

export type Paint = Record<keyof typeof CODES, (text: string) => string>

export function paintFor(output: { isTTY?: boolean }): Paint {
  const { NO_COLOR: noColor = '', TERM: terminal } = process.env
  const isColourful = output.isTTY === true && noColor === '' && terminal !== 'dumb'
  const paint = (code: number) => (text: string) => (isColourful ? `\x1b[${code}m${text}\x1b[0m` : text)
  return {
    bold: paint(CODES.bold),
    dim: paint(CODES.dim),
    red: paint(CODES.red),
    green: paint(CODES.green),
    yellow: paint(CODES.yellow),
    cyan: paint(CODES.cyan),
  }
}
