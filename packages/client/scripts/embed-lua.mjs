// Embeds lua/*.lua into src/redis/lua.generated.ts, so that the package works bundled and without a file system.
// `--- @include name` pulls in lua/includes/name.lua, once per script; comment lines are left out.
// With --check it writes nothing and fails if the file is not what it would write.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = new URL('../', import.meta.url)
const target = new URL('src/redis/lua.generated.ts', root)

function load(path, included) {
  const lines = []
  for (const line of readFileSync(new URL(path, root), 'utf8').split('\n')) {
    const include = /^--- @include ([a-z-]+)$/.exec(line)
    if (include === null) {
      if (!/^\s*(--.*)?$/.test(line)) lines.push(line)
    } else if (!included.has(include[1])) {
      included.add(include[1])
      lines.push(...load(`lua/includes/${include[1]}.lua`, included))
    }
  }
  return lines
}

const scripts = readdirSync(new URL('lua/', root))
  .filter((file) => file.endsWith('.lua'))
  .sort()
  .map((file) => {
    const name = file.slice(0, -4).replace(/-([a-z])/g, (_, letter) => letter.toUpperCase())
    const body = load(`lua/${file}`, new Set()).join('\n')
    if (body.includes('`') || body.includes('\\'))
      throw new Error(`${file}: no backtick or backslash, please`)
    return `export const ${name}Lua: string = \`${body}\`\n`
  })

const text = `// Made by scripts/embed-lua.mjs from lua/*.lua. Change those and run \`pnpm embed-lua\`.\n\n${scripts.join('\n')}`
if (process.argv.includes('--check')) {
  if (readFileSync(target, 'utf8') !== text) {
    console.error(`${fileURLToPath(target)} is not what lua/*.lua makes: run \`pnpm embed-lua\``)
    process.exit(1)
  }
} else {
  writeFileSync(target, text)
}
