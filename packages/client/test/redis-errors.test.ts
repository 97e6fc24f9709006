import { runInNewContext } from 'node:vm'
import { StreamClientError } from '@redis-stream-client/notifs'
import { ReplyError } from 'ioredis'
import { describe, expect, it } from 'vitest'
import { isForbidden, isMistake, isReply, isTransient, nameForbidden } from '../src/redis/redis-errors.js'

const LUA = `local lbs = KEYS[1]
local entry = redis.call('XRANGE', lbs, id, id)[1]
redis.call("XGROUP", "DELCONSUMER", lbs, group, name)`

function reply(message: string): Error {
  return new (ReplyError as new (message: string) => Error)(message)
}

describe('a permission that is missing', () => {
  it.each([
    ['6.2', "NOPERM this user has no permissions to run the 'xrange' command or its subcommand"],
    [
      '6.2, in a script',
      "ERR Error running script (call to f_0): @user_script:2: The user executing the script can't run this command or subcommand",
    ],
    ['7.0', "NOPERM this user has no permissions to run the 'xrange' command"],
    [
      '7.0, in a script',
      "ERR The user executing the script can't run this command or subcommand script: 6f84, on @user_script:2.",
    ],
    ['7.2', "NOPERM User u has no permissions to run the 'xrange' command"],
    [
      '7.2, in a script',
      "ERR ACL failure in script: User u has no permissions to run the 'xrange' command script: 6f84, on @user_script:2.",
    ],
  ])('is recognised and named: Redis %s', (_, message) => {
    const error = reply(message)
    expect(isForbidden(error)).toBe(true)
    expect(isTransient(error)).toBe(false)
    expect(nameForbidden(error, LUA)).toBe(error)
    expect(error.message).toMatch(/'xrange' command/)
  })

  it('of a command with subcommands is named as rules write it', () => {
    const error = reply("ERR The user executing the script can't run this command, on @user_script:3.")
    expect((nameForbidden(error, LUA) as Error).message).toContain("'xgroup|delconsumer'")
  })

  it('is not seen in other refusals, nor a command made up for a line that has none', () => {
    const other = reply('ERR wrong number of arguments, on @user_script:2.')
    expect(isForbidden(other)).toBe(false)
    expect((nameForbidden(other, LUA) as Error).message).toBe(
      'ERR wrong number of arguments, on @user_script:2.',
    )
    const nowhere = reply('ERR The user executing the script, on @user_script:9.')
    expect((nameForbidden(nowhere, LUA) as Error).message).toBe(
      'ERR The user executing the script, on @user_script:9.',
    )
  })
})

/** As ioredis has it, of another version or copy. */
class RedisError extends Error {
  override get name(): string {
    return this.constructor.name
  }
}

describe('an answer of Redis', () => {
  it('is told from other errors whatever ioredis it comes from, and under any name of its class', () => {
    class ReplyError extends RedisError {}
    class a extends RedisError {}
    for (const Class of [ReplyError, a]) {
      expect(isReply(new Class('NOSCRIPT No matching script.'), 'NOSCRIPT')).toBe(true)
      expect(isTransient(new Class('WRONGTYPE Operation against a key'))).toBe(false)
      expect(isTransient(new Class('LOADING Redis is loading the dataset in memory'))).toBe(true)
    }
  })

  it('is not what ioredis, Node or this library says', () => {
    class AbortError extends RedisError {}
    const others = [
      new AbortError('Command aborted due to connection close'),
      new Error('ERR of the application'),
      Object.assign(new Error('EPROTO of OpenSSL'), { code: 'EPROTO' }),
      new StreamClientError('SESSION_LOST', 'ERR is over'),
      new TypeError('JSON is no function'),
    ]
    expect(others.filter((error) => isReply(error))).toEqual([])
  })
})

describe('a mistake of a program', () => {
  it('is not tried again; a lost connection is, also where its error is of another realm', () => {
    const ofNode: unknown = runInNewContext("new Error('read ECONNRESET')")
    expect(isTransient(ofNode)).toBe(true)
    const mistakes = [
      new TypeError('x'),
      new RangeError('x'),
      runInNewContext("new TypeError('x')"),
      'text',
      null,
    ]
    expect(mistakes.map(isMistake)).toEqual(mistakes.map(() => true))
    expect(mistakes.some(isTransient)).toBe(false)
  })
})
