/** What JavaScript lets a handler throw, beside errors: each throws when it is looked at, or is no text, or is too much. */

function refuse(): never {
  throw new Error('do not look at me')
}

const everyTrap = Object.fromEntries(
  Object.getOwnPropertyNames(Reflect).map((trap) => [trap, refuse]),
) as ProxyHandler<object>

/** With a name for each. */
export const hostileValues: readonly (readonly [name: string, thrown: unknown])[] = [
  ['an object without a prototype', Object.create(null)],
  ['a proxy that refuses everything', new Proxy({}, everyTrap)],
  ['an error whose message cannot be read', Object.defineProperty(new Error(), 'message', { get: refuse })],
  ['an error whose name is a symbol', Object.assign(new Error('no'), { name: Symbol('no') })],
  ['an error whose prototype is a proxy', Object.setPrototypeOf(new Error('no'), new Proxy({}, everyTrap))],
  ['an object whose text cannot be had', { toString: refuse }],
  ['nothing', undefined],
  ['null', null],
  ['a symbol', Symbol('no')],
  ['a message of a megabyte', new Error('€'.repeat(2 ** 20))],
]
