import { ReplyError } from 'ioredis'
import { describe, expect, it } from 'vitest'
import { isForbidden, isTransient, nameForbidden } from '../src/redis/redis-errors.js'

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
