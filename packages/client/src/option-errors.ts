/** The errors of options, in the same words wherever an option is checked. */
import { StreamClientError } from '@redis-stream-client/notifs'
import type { z } from 'zod'

/** What the first issue that zod found says about the options it was given. */
export function explainIssue(issue: z.core.$ZodIssue | undefined, options: unknown): StreamClientError {
  if (issue?.code === 'unrecognized_keys') return unknownOption([...issue.path, issue.keys[0]].join('.'))
  const path = issue?.path ?? []
  let value: unknown = options
  for (const key of path) value = (value as Record<PropertyKey, unknown>)[key]
  if (path.length === 0) return invalidOption('options', value, 'must be an object')
  return invalidOption(path.join('.'), value, issue?.message ?? 'is invalid')
}

/** OPTION_INVALID for an option that does not exist. */
export function unknownOption(option: string): StreamClientError {
  return new StreamClientError('OPTION_INVALID', `there is no option ${option}`, { option })
}

/** OPTION_INVALID, naming option, rule and value. The rule is a verb with what must be: `must be ...`. */
export function invalidOption(option: string, value: unknown, rule: string): StreamClientError {
  const shown = typeof value === 'string' ? JSON.stringify(value) : String(value)
  return new StreamClientError('OPTION_INVALID', `option ${option} ${rule}, got ${shown}`, {
    option,
    value: shown,
  })
}
