import { describe, expect, it } from 'vitest'
import { parseCalls, totalCalls } from '../src/redis-meter.js'
import { sentAtRest } from '../src/sent-commands.js'

const INFO = [
  '# Commandstats',
  'cmdstat_evalsha:calls=12,usec=340,usec_per_call=28.33,rejected_calls=0,failed_calls=0',
  'cmdstat_xinfo|consumers:calls=3,usec=40,usec_per_call=13.33,rejected_calls=0,failed_calls=0',
  'cmdstat_config|resetstat:calls=1,usec=40,usec_per_call=40.00,rejected_calls=0,failed_calls=0',
  'cmdstat_info:calls=2,usec=40,usec_per_call=20.00,rejected_calls=0,failed_calls=0',
].join('\r\n')

describe('the commands of a server', () => {
  it('are counted by name, without those of the meter', () => {
    const calls = parseCalls(INFO)
    expect(calls).toEqual({ evalsha: 12, 'xinfo|consumers': 3 })
    expect(totalCalls(calls)).toBe(15)
  })

  it('that clients at rest have sent are counted without what their scripts call', () => {
    const calls = {
      evalsha: 21,
      xreadgroup: 6,
      'xinfo|consumers': 11,
      get: 10,
      mget: 10,
      set: 10,
      pexpire: 10,
    }
    expect(sentAtRest(calls)).toEqual({ commands: 27, heartbeats: 10 })
    expect(sentAtRest({ xclaim: 18, xreadgroup: 5 })).toEqual({ commands: 23, heartbeats: 0 })
  })
})
