import { StreamRecord } from '@redis-stream-client/handling'
import { countKept } from '@redis-stream-client/test/support/collect-garbage'
import { describe, expect, it } from 'vitest'
import { RecordBuffer } from '../src/reading/record-buffer.js'

describe('records that wait for the handler', () => {
  it('are let go when they are done with, although more of their stream wait', async () => {
    const use = { records: 0, bytes: 0 }
    const buffer = new RecordBuffer(use)
    const references: WeakRef<object>[] = []
    for (let id = 1; id <= 100; id++) {
      const record = new StreamRecord('sensor-1', [`${id}-0`, ['data', 'x']])
      references.push(new WeakRef(record))
      buffer.push(record)
    }
    buffer.dropThrough('40-0')
    await expect.poll(() => countKept(references)).toBe(60)
    expect(buffer.first?.id).toBe('41-0')
    expect(use.records).toBe(60)
  })
})
