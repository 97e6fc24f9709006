/** Schemas of any library that shares the interface Standard Schema, and what they say of a value. */

/**
 * The interface that validation libraries such as zod, valibot and arktype share (Standard Schema, version 1,
 * https://standardschema.dev). These are types alone: no library is needed for them.
 */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1
    readonly vendor: string
    readonly validate: (
      value: unknown,
    ) => StandardSchemaResult<Output> | PromiseLike<StandardSchemaResult<Output>>
    readonly types?: { readonly input: Input; readonly output: Output } | undefined
  }
}

export type StandardSchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly StandardSchemaIssue[] }

/** What does not fit, and where: keys from the outside to the inside. */
export interface StandardSchemaIssue {
  readonly message: string
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined
}

/** What of a value does not fit a schema, in plain text: `items[0].price`. The path is empty for the value as a whole. */
export interface ValueIssue {
  readonly path: string
  readonly message: string
}

/** True for a schema of this interface. Some libraries have functions as schemas. */
export function isStandardSchema(value: unknown): value is StandardSchema {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return false
  try {
    const props = (value as Partial<StandardSchema>)['~standard']
    return props?.version === 1 && typeof props.validate === 'function'
  } catch {
    return false
  }
}

/** What an option has to be that takes a schema, for the error that refuses another value. */
export const STANDARD_SCHEMA_RULE: string =
  'must be a Standard Schema, version 1, such as one of zod, valibot or arktype'

const GREATEST_ISSUES = 20
const GREATEST_CHARS = 200

/** What a schema says of a value; at most 20 issues, each of at most 200 characters. */
export function valueIssues(issues: readonly StandardSchemaIssue[]): ValueIssue[] {
  return issues.slice(0, GREATEST_ISSUES).map(({ message, path = [] }) => ({
    path: path.map(pathPart).join('').replace(/^\./, '').slice(0, GREATEST_CHARS),
    message: String(message).slice(0, GREATEST_CHARS),
  }))
}

/** One line that names each issue. */
export function describeIssues(issues: readonly ValueIssue[]): string {
  return issues.map(({ message, path }) => (path === '' ? message : `${path}: ${message}`)).join('; ')
}

function pathPart(part: PropertyKey | { readonly key: PropertyKey }): string {
  const key = typeof part === 'object' ? part.key : part
  return typeof key === 'number' ? `[${key}]` : `.${String(key)}`
}
