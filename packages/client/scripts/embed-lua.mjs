// Embeds lua/*.lua of each package that has any into its src/redis/lua.generated.ts, so that the packages work
// bundled and without a file system. `--- @include name` pulls in lua/includes/name.lua, once per script, of the
// package itself, else of the packages it builds on; comment lines are left out.
//
//     embed-lua.mjs [--check] [package folder ...]
//
// Without a folder it does all packages. With --check it writes nothing and fails if a file is not what it would write.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const client = new URL('../', import.meta.url)
const handling = new URL('../handling/', client)
const given = process.argv.slice(2).filter((argument) => argument !== '--check')
const packages = (given.length > 0 ? given.map(fromWorkingFolder) : siblings()).filter((root) =>
  existsSync(new URL('lua/', root)),
)
let isStale = false
for (const root of packages) {
  const target = new URL('src/redis/lua.generated.ts', root)
  const text = embed(root)
  if (!process.argv.includes('--check')) {
    writeFileSync(target, text)
  } else if (!existsSync(target) || readFileSync(target, 'utf8') !== text) {
    console.error(`${fileURLToPath(target)} is not what lua/*.lua makes: run \`pnpm embed-lua\``)
    isStale = true
  }
}
if (isStale) process.exit(1)

function fromWorkingFolder(path) {
  return pathToFileURL(`${resolve(path)}/`)
}

function siblings() {
  const folder = new URL('../', client)
  return readdirSync(folder).map((name) => new URL(`${name}/`, folder))
}

function embed(root) {
  const scripts = readdirSync(new URL('lua/', root))
    .filter((file) => file.endsWith('.lua'))
    .sort()
    .map((file) => {
      const name = file.slice(0, -4).replace(/-([a-z])/g, (_, letter) => letter.toUpperCase())
      const body = load(root, new URL(`lua/${file}`, root), new Set()).join('\n')
      if (body.includes('`') || body.includes('\\'))
        throw new Error(`${file}: no backtick or backslash, please`)
      return `export const ${name}Lua: string = \`${body}\`\n`
    })
  return `// Made by scripts/embed-lua.mjs from lua/*.lua. Change those and run \`pnpm embed-lua\`.\n\n${scripts.join('\n')}`
}

function load(root, file, included) {
  const lines = []
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const include = /^--- @include ([a-z-]+)$/.exec(line)
    if (include === null) {
      if (!/^\s*(--.*)?$/.test(line)) lines.push(line)
    } else if (!included.has(include[1])) {
      included.add(include[1])
      lines.push(...load(root, findInclude(root, include[1]), included))
    }
  }
  return lines
}

function findInclude(root, name) {
  const places = [root, handling, client].map((place) => new URL(`lua/includes/${name}.lua`, place))
  return places.find((place) => existsSync(place)) ?? places[0]
}
