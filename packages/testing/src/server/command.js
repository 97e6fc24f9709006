/** Other programs, run to their end: what they print, whether they work, why they did not. */
import { execFileSync } from 'node:child_process'
import { accessSync, constants, statSync } from 'node:fs'

const RUN_TIMEOUT_MS = 120_000

/**
 * What the program writes to stdout; throws when it fails or takes too long.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, timeout?: number }} [options]
 * @returns {string}
 */
export function run(command, args, options) {
  const stdio = /** @type {const} */ (['ignore', 'pipe', 'pipe'])
  return execFileSync(command, args, {
    encoding: 'utf8',
    stdio: [...stdio],
    timeout: RUN_TIMEOUT_MS,
    ...options,
  })
}

/**
 * @param {string} command
 * @param {readonly string[]} args
 */
export function runs(command, args) {
  try {
    run(command, args)
    return true
  } catch {
    return false
  }
}

/** @param {string} path */
export function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

/**
 * One line that says what an error was about: the last that the program wrote to stderr.
 * @param {unknown} error
 * @returns {string}
 */
export function reasonOf(error) {
  const stderr = String(/** @type {{ stderr?: string } | null | undefined} */ (error)?.stderr ?? '')
    .trim()
    .split('\n')
    .filter(Boolean)
    .at(-1)
  return stderr || (error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error))
}
