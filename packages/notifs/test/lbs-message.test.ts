import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  decodeLbsMessage,
  encodeLbsMessage,
  type JsonObject,
  type LbsMessage,
  StreamClientError,
} from '../src/index.js'
import { inspectInfo, MAX_INFO_DEPTH, survives } from '../src/info-scanner.js'

/** The error a call throws; it must be one with the codec's code. */
function refusalOf(call: () => unknown): StreamClientError {
  try {
    call()
  } catch (error) {
    expect(error).toBeInstanceOf(StreamClientError)
    expect(error).toMatchObject({ code: 'LBS_MESSAGE_INVALID' })
    return error as StreamClientError
  }
  throw new Error('nothing was thrown')
}

const decodeRefusal = (text: unknown): StreamClientError => refusalOf(() => decodeLbsMessage(text as string))
const encodeRefusal = (message: unknown): StreamClientError =>
  refusalOf(() => encodeLbsMessage(message as LbsMessage))
const infoRefusal = (info: unknown): StreamClientError => encodeRefusal({ dataStreamName: 'a', info })

/** `{"x":{"x":...1...}}`, with so many objects. */
function nestedText(levels: number): string {
  return `${'{"x":'.repeat(levels)}1${'}'.repeat(levels)}`
}

function nested(levels: number): JsonObject {
  let value: JsonObject = { x: 1 }
  for (let level = 1; level < levels; level += 1) value = { x: value }
  return value
}

describe('decodeLbsMessage', () => {
  it('reads a name with and without Info', () => {
    expect(decodeLbsMessage('{"DataStreamName":"sensor-1"}')).toStrictEqual({ dataStreamName: 'sensor-1' })
    expect(
      decodeLbsMessage(' {"DataStreamName": "é😀", "Info": {"a": [1, null, {"b": true}]}} '),
    ).toStrictEqual({
      dataStreamName: 'é😀',
      info: { a: [1, null, { b: true }] },
    })
  })

  it('counts an Info of null as absent', () => {
    expect(decodeLbsMessage('{"DataStreamName":"a","Info":null}')).toStrictEqual({ dataStreamName: 'a' })
  })

  it('ignores fields it does not know, whatever they hold', () => {
    const text = `{"Other":[1e999],"Deep":${nestedText(5000)},"DataStreamName":"a","Info":{},"Id":12345678901234567890}`
    expect(decodeLbsMessage(text)).toStrictEqual({ dataStreamName: 'a', info: {} })
  })

  it('reads names in any case', () => {
    expect(decodeLbsMessage('{"datastreamname":"a","INFO":{"b":1}}')).toStrictEqual({
      dataStreamName: 'a',
      info: { b: 1 },
    })
    expect(decodeRefusal('{"DATA\u017FTREAMNAME":"a"}').message).toContain('no DataStreamName')
  })

  it('prefers the exact spelling wherever it stands, else takes the last', () => {
    const exact =
      '{"DATASTREAMNAME":"no","DataStreamName":"yes","dataStreamName":"no","Info":null,"info":{"a":1}}'
    expect(decodeLbsMessage(exact)).toStrictEqual({ dataStreamName: 'yes' })
    const others = '{"dataStreamName":"no","DATASTREAMNAME":"yes","info":{"a":1},"INFO":{"b":1}}'
    expect(decodeLbsMessage(others)).toStrictEqual({ dataStreamName: 'yes', info: { b: 1 } })
  })

  it('keeps __proto__ as a key and leaves prototypes alone', () => {
    const { info } = decodeLbsMessage(
      '{"DataStreamName":"a","__proto__":{"Info":{}},"Info":{"__proto__":{"bad":1}}}',
    )
    expect(Object.keys(info ?? {})).toEqual(['__proto__'])
    expect(Object.getPrototypeOf(info)).toBe(Object.prototype)
    expect(({} as { bad?: number }).bad).toBeUndefined()
    expect(decodeRefusal('{"__proto__":{"DataStreamName":"a"}}').message).toContain('no DataStreamName')
  })

  it.each([
    ['{"DataStreamName":"a",}', 'it is not JSON: ', 22],
    ['{"DataStreamName":"a"', 'it is not JSON: ', 21],
    ['', 'it is not JSON: Unexpected end of JSON input at position 0', 0],
    ['{"DataStreamName"', 'it is not JSON: ', 17],
    ['{"DataStreamName":"a"} trailing', 'it is not JSON: ', 23],
  ])('says where %j stops being JSON', (text, problem, position) => {
    const error = decodeRefusal(text)
    expect(error.message).toContain(`LBS message invalid: ${problem}`)
    expect(error.message).toContain(`at position ${position}`)
    expect(error.facts).toEqual({ position })
    expect(error.cause).toBeInstanceOf(SyntaxError)
  })

  it('shows what surrounds the fault when the parser gives no position', () => {
    const error = decodeRefusal('{"DataStreamName": hello}')
    expect(error.message).toContain('hello')
    expect(error.facts).toEqual({})
  })

  it.each([
    [undefined, 'it is not text but undefined'],
    [42, 'it is not text but a number'],
    ['[1]', 'it is not a JSON object but an array'],
    ['null', 'it is not a JSON object but null'],
    ['"DataStreamName"', 'it is not a JSON object but a string'],
    ['1e999', 'it is not a JSON object but a number'],
    ['{}', 'it has no DataStreamName'],
    ['{"Name":"a"}', 'it has no DataStreamName'],
    ['{"DataStreamName":1}', 'DataStreamName is not a string but a number'],
    ['{"DataStreamName":null}', 'DataStreamName is not a string but null'],
    ['{"dataStreamName":["a"]}', 'DataStreamName is not a string but an array'],
    ['{"DataStreamName":{}}', 'DataStreamName is not a string but an object'],
    ['{"DataStreamName":""}', 'DataStreamName is empty'],
    [
      '{"DataStreamName":"ab\\ud800c"}',
      'DataStreamName is not well-formed Unicode: a lone surrogate at index 2',
    ],
    [
      '{"DataStreamName":"\\udc00\\ud800"}',
      'DataStreamName is not well-formed Unicode: a lone surrogate at index 0',
    ],
    ['{"DataStreamName":"a","Info":[]}', 'Info is not an object but an array'],
    ['{"DataStreamName":"a","Info":"{}"}', 'Info is not an object but a string'],
    ['{"DataStreamName":"a","info":false}', 'Info is not an object but a boolean'],
  ])('refuses %j: %s', (text, problem) => {
    expect(decodeRefusal(text).message).toBe(`LBS message invalid: ${problem}`)
  })

  it.each([
    '9007199254740993.0',
    '12345678901234567891e1',
    '1e999',
    '-1E+999',
    '1e-400',
    '0.1234567890123456789',
    '3.14159265358979323846',
    '1.00000000000000001',
    '123456789012345678901e-10',
  ])('refuses the number %s, which JSON.parse would change', (literal) => {
    const text = `{"DataStreamName":"a","Info":{"list":["1e5", 7, ${literal}]}}`
    const error = decodeRefusal(text)
    expect(error.message).toContain(`the number ${literal} in Info, at position ${text.indexOf(literal)}`)
    expect(error.message).toContain(`would become ${Number(literal)}; send it as text`)
    expect(error.facts).toEqual({ field: 'Info', literal, position: text.indexOf(literal) })
  })

  it.each([
    '0',
    '-0',
    '-0.0e5',
    '1.50',
    '1e2',
    '1.7976931348623157e+308',
    '5e-324',
    '9007199254740991',
    '-9007199254740991',
    '1.0',
    '9007199254740992.0',
    '9007199254740992e0',
    '1E20',
    '-2e+21',
    '1732228800000000',
    '0.30000000000000004',
    '0.000000000000000000000001',
    '0.1000000000000000000000000000',
  ])('accepts the number %s in whatever spelling', (literal) => {
    const { info } = decodeLbsMessage(`{"DataStreamName":"a","Info":{"n":${literal}}}`)
    expect(info).toStrictEqual({ n: Number(literal) })
  })

  it.each([
    '9007199254740992',
    '-9007199254740992',
    '9007199254740993',
    '1732796227123456789',
    '1732796227000000000',
    '18446744073709551615',
    '-9223372036854775808',
    '100000000000000000000',
    '9'.repeat(400),
  ])('hands the integer %s over as its decimal text, wherever in Info it stands', (literal) => {
    const text = `{"Info":{"é😀": ${literal},"list":[1,[${literal} ,"${literal}"]],"${literal}":{"id":${literal}}},"DataStreamName":"a"}`
    const seen: string[] = []
    const options = { onIntegerAsText: (each: string) => seen.push(each) }
    const info = { 'é😀': literal, list: [1, [literal, literal]], [literal]: { id: literal } }
    expect(decodeLbsMessage(text, options).info).toStrictEqual(info)
    expect(decodeLbsMessage(Buffer.from(text)).info).toStrictEqual(info)
    expect(seen).toEqual([literal, literal, literal])
  })

  it('hands over as text what begins to be read, and leaves integers beside Info alone', () => {
    const large = '9007199254740993'
    const text = `{"id":${large},"Info":{"n":${large}},"DataStreamName":"a","Inf\\u006f":{"m":-${large},"n":7},"more":[${large}]}`
    const seen: string[] = []
    expect(decodeLbsMessage(text, { onIntegerAsText: (each) => seen.push(each) })).toStrictEqual({
      dataStreamName: 'a',
      info: { m: `-${large}`, n: 7 },
    })
    expect(seen).toEqual([`-${large}`])
  })

  it('refuses integers that JSON.parse would change, and reads the others as numbers, if that is wanted', () => {
    const options = { infoNumbers: 'refuse', onIntegerAsText: () => expect.unreachable() } as const
    const read = (literal: string) =>
      decodeLbsMessage(`{"DataStreamName":"é","Info":{"list":[7,${literal}]}}`, options).info
    expect(read('9007199254740992')).toStrictEqual({ list: [7, 9007199254740992] })
    expect(read('100000000000000000000')).toStrictEqual({ list: [7, 1e20] })
    for (const literal of ['9007199254740993', '-12345678901234567890']) {
      const error = refusalOf(() => read(literal))
      expect(error.facts).toEqual({ field: 'Info', literal, position: 40 })
      expect(error.message).toContain(`would become ${Number(literal)}; send it as text`)
    }
  })

  it('reads UTF-8 as it reads text', () => {
    const text = '{"DataStreamName":"é😀\\u0000","Info":{"ключ":[1.5,"значение"]}}'
    expect(decodeLbsMessage(Buffer.from(text))).toStrictEqual(decodeLbsMessage(text))
    expect(decodeLbsMessage(new TextEncoder().encode(text))).toStrictEqual(decodeLbsMessage(text))
    expect(refusalOf(() => decodeLbsMessage(Buffer.from('\ufeff{"DataStreamName":"a"}'))).message).toContain(
      'it is not JSON',
    )
  })

  it.each([
    ['a byte that never occurs', [0xff]],
    ['a character that breaks off', [0xc3]],
    ['a byte that continues nothing', [0x80]],
    ['a surrogate', [0xed, 0xa0, 0x80]],
    ['a zero in two bytes', [0xc0, 0x80]],
    ['a character beyond the last', [0xf4, 0x90, 0x80, 0x80]],
  ])('refuses what is not UTF-8, in the name and in Info: %s', (_what, bytes) => {
    for (const [before, after] of [
      ['{"DataStreamName":"a', '"}'],
      ['{"DataStreamName":"a","Info":{"b":"', '"}}'],
    ]) {
      const source = Buffer.concat([Buffer.from(`${before}`), Buffer.from(bytes), Buffer.from(`${after}`)])
      const error = refusalOf(() => decodeLbsMessage(source))
      expect(error.message).toBe('LBS message invalid: it is not UTF-8')
      expect(error.cause).toBeInstanceOf(TypeError)
    }
  })

  it('takes digits inside strings for text', () => {
    const text =
      '{"DataStreamName":"1e999","Info":{"a":"x:1e999","\\"b\\\\":",12345678901234567890","c":1e3}}'
    expect(decodeLbsMessage(text).info).toStrictEqual({
      a: 'x:1e999',
      '"b\\': ',12345678901234567890',
      c: 1000,
    })
  })

  it('judges the last of two Info with the same spelling, as JSON.parse reads them', () => {
    expect(decodeLbsMessage('{"DataStreamName":"a","Info":{"n":1e999},"Inf\\u006f":{"n":1}}').info).toEqual({
      n: 1,
    })
    decodeRefusal('{"DataStreamName":"a","Info":{"n":1},"Info":{"n":1e999}}')
  })

  it('finds a fault behind other fields, whatever they are called', () => {
    const error = decodeRefusal(
      '{"DataStreamName":"a","Info":{"Info":"Info","b":{"Info":1},"c":["d","e",1e999]},"f":1}',
    )
    expect(error.facts).toMatchObject({ field: 'Info', literal: '1e999' })
    const beside = '{"f":{"Info":1e999},"DataStreamName":"a","Info":{"b":1e3},"g":["Info",1e999]}'
    expect(decodeLbsMessage(beside).info).toEqual({ b: 1000 })
  })

  it('names the first of several faults and cuts what is long', () => {
    const error = decodeRefusal(`{"DataStreamName":"a","Info":{"n":0.${'9'.repeat(1000)},"m":1e999}}`)
    expect(error.message).toContain(`0.${'9'.repeat(58)}... in Info`)
    expect(error.message.length).toBeLessThan(200)
  })

  it('refuses Info beyond the deepest level, and accepts it up to there', () => {
    const deepest = decodeLbsMessage(`{"DataStreamName":"a","Info":${nestedText(MAX_INFO_DEPTH)}}`)
    expect(JSON.stringify(deepest.info)).toBe(nestedText(MAX_INFO_DEPTH))
    for (const levels of [MAX_INFO_DEPTH + 1, 200_000]) {
      const error = decodeRefusal(`{"DataStreamName":"a","Info":${nestedText(levels)}}`)
      expect(error.message).toContain('Info is nested deeper than 1000 levels at position')
    }
  })

  it('stays fast with long texts that try its patience', () => {
    const size = 300_000
    const texts = [
      `{"DataStreamName":"a","Info":{"n":1${'0'.repeat(size)}1}}`,
      `{"DataStreamName":"a","Info":{"s":"${'\\\\'.repeat(size)}","t":"${':'.repeat(size)}${'1'.repeat(size)}","n":1e1}}`,
      `{"DataStreamName":"a"${' '.repeat(size)},"Info":{"n":[${'1,'.repeat(size)}1e1]}}`,
      `{"DataStreamName":"a","Info":{"s":"${':1 '.repeat(size)}"}}`,
    ]
    for (const text of texts) {
      try {
        decodeLbsMessage(text)
      } catch (error) {
        expect(error).toMatchObject({ code: 'LBS_MESSAGE_INVALID' })
      }
    }
  })
})

describe('encodeLbsMessage', () => {
  it('writes the name first, then Info if there is one', () => {
    expect(encodeLbsMessage({ dataStreamName: 'a"b' })).toBe('{"DataStreamName":"a\\"b"}')
    expect(encodeLbsMessage({ dataStreamName: 'a', info: {} })).toBe('{"DataStreamName":"a","Info":{}}')
    const info = { text: 'é\n', list: [1, -0, 1.5, 1e300, [], null], yes: true, 'odd key': { no: false } }
    expect(encodeLbsMessage({ dataStreamName: 'a', info })).toBe(
      '{"DataStreamName":"a","Info":{"text":"é\\n","list":[1,-0,1.5,1e+300,[],null],"yes":true,"odd key":{"no":false}}}',
    )
  })

  it('writes a bigint as the integer it is, and a number beyond the safe ones so that it is read as a number', () => {
    const large = 2n ** 64n
    const text = encodeLbsMessage({
      dataStreamName: 'a',
      info: { id: large, list: [-large, 7n], n: 2 ** 60 },
    })
    expect(text).toBe(
      `{"DataStreamName":"a","Info":{"id":${large},"list":[-${large},7],"n":1.152921504606847e+18}}`,
    )
    expect(decodeLbsMessage(text).info).toStrictEqual({ id: `${large}`, list: [`-${large}`, 7], n: 2 ** 60 })
  })

  it('counts an info of null or undefined as absent', () => {
    for (const info of [null, undefined]) {
      expect(encodeLbsMessage({ dataStreamName: 'a', info } as unknown as LbsMessage)).toBe(
        '{"DataStreamName":"a"}',
      )
    }
  })

  it('writes __proto__ like any other key', () => {
    const info = JSON.parse('{"__proto__":{"bad":1}}') as JsonObject
    const text = encodeLbsMessage({ dataStreamName: 'a', info })
    expect(text).toBe('{"DataStreamName":"a","Info":{"__proto__":{"bad":1}}}')
    expect(decodeLbsMessage(text).info).toStrictEqual(info)
  })

  it('accepts objects without a prototype and from another realm', () => {
    const bare = Object.assign(Object.create(null), { a: 1 }) as JsonObject
    expect(encodeLbsMessage({ dataStreamName: 'a', info: bare })).toContain('"Info":{"a":1}')
    const foreign = runInNewContext('({ a: [{}] })') as JsonObject
    expect(encodeLbsMessage({ dataStreamName: 'a', info: foreign })).toContain('"Info":{"a":[{}]}')
  })

  it('writes a value that stands in two places', () => {
    const shared = { a: 1 }
    expect(encodeLbsMessage({ dataStreamName: 'a', info: { x: shared, y: shared } })).toContain(
      '{"x":{"a":1},"y":{"a":1}}',
    )
  })

  it('does not ask an inherited toJSON', () => {
    Object.defineProperty(Object.prototype, 'toJSON', { value: () => 'other', configurable: true })
    try {
      expect(encodeLbsMessage({ dataStreamName: 'a', info: { b: 1 } })).toBe(
        '{"DataStreamName":"a","Info":{"b":1}}',
      )
    } finally {
      Reflect.deleteProperty(Object.prototype, 'toJSON')
    }
  })

  it.each([
    [undefined, 'it is not an object but undefined'],
    ['a', 'it is not an object but a string'],
    [null, 'it is not an object but null'],
    [{}, 'dataStreamName is not a string but undefined'],
    [{ dataStreamName: 7 }, 'dataStreamName is not a string but a number'],
    [{ dataStreamName: Object('a') }, 'dataStreamName is not a string but an instance of String'],
    [{ dataStreamName: '' }, 'dataStreamName is empty'],
    [{ dataStreamName: 'a\ud800' }, 'dataStreamName is not well-formed Unicode: a lone surrogate at index 1'],
  ])('refuses the message %j: %s', (message, problem) => {
    expect(encodeRefusal(message).message).toBe(`LBS message invalid: ${problem}`)
  })

  class Custom {
    field = 1
  }
  const cycle: Record<string, unknown> = { list: [] }
  ;(cycle['list'] as unknown[]).push({ back: cycle })

  it.each([
    ['an array', [], 'info is not a plain object but an array'],
    ['a text', 'text', 'info is not a plain object but a string'],
    ['zero', 0, 'info is not a plain object but a number'],
    ['a Map', new Map(), 'info is not a plain object but an instance of Map'],
    ['an instance', new Custom(), 'info is not a plain object but an instance of Custom'],
    ['undefined', { a: undefined }, 'info.a is undefined, which JSON cannot say'],
    ['undefined in an array', { a: [1, undefined] }, 'info.a[1] is undefined, which JSON cannot say'],
    ['a hole', { a: Array(1) }, 'info.a[0] is undefined, which JSON cannot say'],
    ['a function', { a: { 'b c': () => 1 } }, 'info.a["b c"] is a function, which JSON cannot say'],
    ['a toJSON', { a: { toJSON: () => 1 } }, 'info.a.toJSON is a function, which JSON cannot say'],
    ['a symbol', { a: Symbol('s') }, 'info.a is a symbol, which JSON cannot say'],
    ['a symbol as key', { a: { [Symbol('s')]: 1 } }, 'info.a has a symbol as key'],
    ['NaN', { a: Number.NaN }, 'info.a is NaN, which JSON cannot say'],
    ['an infinity', { a: [Number.NEGATIVE_INFINITY] }, 'info.a[0] is -Infinity, which JSON cannot say'],
    ['a Date', { a: new Date(0) }, 'info.a is an instance of Date: write it as plain JSON'],
    ['a boxed text', { a: Object('text') }, 'info.a is an instance of String: write it as plain JSON'],
    [
      'an odd prototype',
      { a: Object.create({ constructor: null }) },
      'info.a is an object with a prototype of its own: write it as plain JSON',
    ],
    [
      'an anonymous class',
      { a: new (class {})() },
      'info.a is an object with a prototype of its own: write it as plain JSON',
    ],
    ['a cycle', cycle, 'info.list[0].back contains itself'],
  ])('refuses %s in info, naming the place', (_what, info, problem) => {
    expect(infoRefusal(info).message).toBe(`LBS message invalid: ${problem}`)
  })

  it('gives the place as a fact too', () => {
    expect(infoRefusal({ a: [undefined] }).facts).toEqual({ field: 'info', path: 'info.a[0]' })
  })

  it('refuses what is nested too deep instead of overflowing the stack', () => {
    const deepest = encodeLbsMessage({ dataStreamName: 'a', info: nested(MAX_INFO_DEPTH) })
    expect(decodeLbsMessage(deepest).dataStreamName).toBe('a')
    for (const levels of [MAX_INFO_DEPTH + 1, 100_000]) {
      const error = infoRefusal(nested(levels))
      expect(error.message).toMatch(
        /^LBS message invalid: info\.x\.x.*\.\.\. is nested deeper than 1000 levels$/,
      )
    }
  })

  it('turns what a getter throws into its own error', () => {
    const cause = new Error('no access')
    const message = {
      get dataStreamName(): string {
        throw cause
      },
    }
    const error = encodeRefusal(message)
    expect(error.message).toBe('LBS message invalid: it cannot be read: no access')
    expect(error.cause).toBe(cause)
    const odd = {
      get dataStreamName(): string {
        throw 'text' // oxlint-disable-line typescript/only-throw-error
      },
    }
    expect(encodeRefusal(odd).message).toBe('LBS message invalid: it cannot be read: a string')
  })

  it('reads each field once, so that a getter cannot answer twice', () => {
    let reads = 0
    const info = {
      get a(): unknown {
        reads += 1
        return reads === 1 ? 'text' : undefined
      },
    }
    expect(encodeLbsMessage({ dataStreamName: 'a', info: info as unknown as JsonObject })).toContain(
      '"a":"text"',
    )
  })
})

/** What a message with bigints is read as. */
function asRead(value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value)
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(asRead)
  return Object.defineProperties(
    {},
    Object.fromEntries(
      Object.entries(value).map(([key, each]) => [
        key,
        { value: asRead(each), enumerable: true, configurable: true, writable: true },
      ]),
    ),
  )
}

describe('the codec as a whole', () => {
  const names = fc
    .string({ unit: 'binary', minLength: 1, maxLength: 30 })
    .filter((name) => !/[\uD800-\uDFFF]/u.test(name))
  const infos = fc
    .dictionary(fc.oneof(fc.string(), fc.constant('__proto__'), fc.constant('toJSON')), fc.jsonValue())
    .map((info) => ({ ...info }) as unknown as JsonObject)

  it('reads back exactly what it wrote', () => {
    fc.assert(
      fc.property(names, fc.option(infos, { nil: undefined }), (dataStreamName, info) => {
        const message: LbsMessage = info === undefined ? { dataStreamName } : { dataStreamName, info }
        expect(decodeLbsMessage(encodeLbsMessage(message))).toStrictEqual(message)
      }),
      { numRuns: 500 },
    )
  })

  it('writes any finite number so that it is read back', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (n) => {
        const text = encodeLbsMessage({ dataStreamName: 'a', info: { n } })
        expect(decodeLbsMessage(text).info).toStrictEqual({ n })
      }),
      { numRuns: 2000 },
    )
  })

  it('either refuses a value or writes it so that the same value is read back', () => {
    fc.assert(
      fc.property(
        fc.anything({ withDate: true, withMap: true, withBigInt: true, withSparseArray: true }),
        (a) => {
          const message = { dataStreamName: 'a', info: { a } } as unknown as LbsMessage
          let text: string
          try {
            text = encodeLbsMessage(message)
          } catch (error) {
            expect(error).toMatchObject({ code: 'LBS_MESSAGE_INVALID' })
            return
          }
          expect(decodeLbsMessage(text)).toEqual(asRead(message))
        },
      ),
      { numRuns: 1000 },
    )
  })

  it('can write again whatever it reads, and fails with its own error otherwise', () => {
    const fragments = fc.constantFrom(
      ...[
        '{',
        '}',
        '[',
        ']',
        ',',
        ':',
        '"',
        '\\',
        '"DataStreamName"',
        '"info"',
        '"a"',
        'null',
        '1e5',
        '-0',
        ' ',
      ],
    )
    const texts = fc.oneof(
      fc.string(),
      fc.array(fragments, { maxLength: 30 }).map((parts) => parts.join('')),
      fc.json().map((json) => `{"DataStreamName":"a","Info":{"a":${json}}}`),
    )
    fc.assert(
      fc.property(texts, (text) => {
        let message: LbsMessage
        try {
          message = decodeLbsMessage(text)
        } catch (error) {
          expect(error).toMatchObject({ code: 'LBS_MESSAGE_INVALID' })
          return
        }
        expect(decodeLbsMessage(encodeLbsMessage(message))).toStrictEqual(message)
      }),
      { numRuns: 2000 },
    )
  })

  it('lets a number pass if and only if it is still the same after reading and writing', () => {
    const digits = fc.string({
      unit: fc.integer({ min: 0, max: 9 }).map(String),
      minLength: 1,
      maxLength: 25,
    })
    const literals = fc
      .tuple(fc.boolean(), digits, fc.option(digits), fc.option(fc.integer({ min: -330, max: 330 })))
      .map(([isNegative, whole, fraction, power]) => {
        const sign = isNegative ? '-' : ''
        const tail = `${fraction === null ? '' : `.${fraction}`}${power === null ? '' : `e${power}`}`
        return `${sign}${whole.replace(/^0+(?=\d)/, '')}${tail}`
      })
    fc.assert(
      fc.property(literals, (literal) => {
        expect(survives(literal)).toBe(exactly(literal) === exactly(String(Number(literal))))
        const text = `{"Info":{"n":${literal}}}`
        const source = { bytes: Buffer.from(text), text }
        expect(inspectInfo(source, 'Info', 'refuse').fault === undefined).toBe(survives(literal))
        const isLarge = /^-?\d+$/.test(literal) && !Number.isSafeInteger(Number(literal))
        expect(inspectInfo(source, 'Info', 'text')).toEqual({
          fault: isLarge || survives(literal) ? undefined : { type: 'number', literal, offset: 13 },
          largeIntegers: isLarge ? [{ start: 13, end: 13 + literal.length }] : [],
        })
      }),
      { numRuns: 3000 },
    )
  })
})

/** The value of a literal as an exact fraction over 10 ** 400, by bigints. */
function exactly(literal: string): bigint | string {
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/i.exec(literal)
  if (match === null) return literal
  const [, sign = '', whole = '', fraction = '', power = '0'] = match
  const value = BigInt(whole + fraction) * 10n ** BigInt(400 + Number(power) - fraction.length)
  return sign === '-' ? -value : value
}
