import { describe, expect, it } from 'vitest'
import { parseCalls, totalCalls } from '../src/redis-meter.js'
import { isHeartbeat } from '../src/sent-commands.js'

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

  it('are heartbeats if they are scripts with one heartbeat key', () => {
    const key = 'orders-heartbeat:redis-consumer-a'
    expect(isHeartbeat(['evalsha', 'hash', '1', key, 'token', '2000'])).toBe(true)
    expect(isHeartbeat(['evalsha', 'hash', '2', 'orders-input', key])).toBe(false)
    expect(isHeartbeat(['xreadgroup', 'GROUP', 'orders-group'])).toBe(false)
  })
})
