/**
 * `node --import .../use-ioredis5.mjs`: every import of ioredis gets version 5, which the root has as `ioredis5`. Set in
 * NODE_OPTIONS, it applies to every process that a test starts.
 */
import * as module from 'node:module'
import { pathToFileURL } from 'node:url'

const url = pathToFileURL(module.createRequire(import.meta.url).resolve('ioredis5')).href

/** Where a module was found, and for another ioredis where version 5 is. */
function swap(found, url) {
  return found.url.endsWith('/node_modules/ioredis/built/index.js') ? { ...found, url } : found
}

if (module.registerHooks) {
  module.registerHooks({ resolve: (specifier, context, next) => swap(next(specifier, context), url) })
} else {
  // Before Node 22.15 hooks run in a thread of their own, which gets nothing but this.
  const hooks = `${swap}
    export const resolve = async (specifier, context, next) =>
      swap(await next(specifier, context), ${JSON.stringify(url)})`
  module.register(`data:text/javascript,${encodeURIComponent(hooks)}`)
}
