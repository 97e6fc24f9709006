/**
 * `node --import .../use-ioredis5.mjs`: whoever asks for ioredis gets version 5, which the root has as `ioredis5`. With
 * NODE_OPTIONS it holds for every process that a test starts.
 */
import { createRequire, register } from 'node:module'
import { pathToFileURL } from 'node:url'

const url = pathToFileURL(createRequire(import.meta.url).resolve('ioredis5')).href
const hooks = `
const OTHER = /\\/node_modules\\/ioredis\\/built\\/index\\.js$/
export async function resolve(specifier, context, next) {
  const found = await next(specifier, context)
  return OTHER.test(found.url) ? { ...found, url: ${JSON.stringify(url)}, shortCircuit: true } : found
}`
register(`data:text/javascript,${encodeURIComponent(hooks)}`)
