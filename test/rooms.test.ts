/** Imports point one way: between packages, and between the rooms (folders of src) of a package. */
import { readdir, readFile } from 'node:fs/promises'
import { dirname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const PACKAGES = fileURLToPath(new URL('../packages/', import.meta.url))

/** From the bottom to the top. What is not in a room wires the rooms together, and no room may know it. */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  worker: [
    'contract',
    'redis',
    'producing',
    'reading',
    'progress',
    'watching',
    'failing',
    'handling',
    'ending',
    '.',
  ],
}
const LAYERS = ['notifs', 'client', 'handling', 'worker']

async function sourcesOf(name: string): Promise<Map<string, string[]>> {
  const root = join(PACKAGES, name, 'src')
  const files = (await readdir(root, { recursive: true })).filter((file) => file.endsWith('.ts'))
  const imports = async (file: string): Promise<string[]> =>
    [...(await readFile(join(root, file), 'utf8')).matchAll(/from '([^']+)'/g)].map(
      ([, from]) => from as string,
    )
  return new Map(await Promise.all(files.map(async (file) => [file, await imports(file)] as const)))
}

const roomOf = (path: string): string => (path.includes(sep) ? (path.split(sep)[0] as string) : '.')

describe('imports point one way', () => {
  it.each(Object.entries(ROOMS))('between the rooms of packages/%s', async (name, rooms) => {
    const upwards: string[] = []
    for (const [file, imports] of await sourcesOf(name)) {
      expect(rooms, file).toContain(roomOf(file))
      for (const from of imports.filter((path) => path.startsWith('.'))) {
        const target = relative('.', join(dirname(file), from))
        if (rooms.indexOf(roomOf(target)) > rooms.indexOf(roomOf(file))) upwards.push(`${file} -> ${target}`)
      }
    }
    expect(upwards).toEqual([])
  })

  it.each(LAYERS)('from packages/%s to the packages below it', async (name) => {
    const upwards: string[] = []
    for (const [file, imports] of await sourcesOf(name)) {
      for (const from of imports) {
        const target = /^@redis-stream-client\/([a-z]+)/.exec(from)?.[1]
        if (target === undefined) continue
        expect(LAYERS).toContain(target)
        if (LAYERS.indexOf(target) >= LAYERS.indexOf(name)) upwards.push(`${file} -> ${from}`)
      }
    }
    expect(upwards).toEqual([])
  })
})
