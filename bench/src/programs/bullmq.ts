/** Hosts BullMQ workers. `service` is the queue; `settings` are WorkerOptions. */
import { Worker, type WorkerOptions } from 'bullmq'
import { Redis } from 'ioredis'
import { serve } from './host-program.js'

const url = process.argv[2] as string

serve(async (_member, { service, onStream = 'hold', settings = {} }, ledger) => {
  const connection = new Redis(url, { maxRetriesPerRequest: null })
  const worker = new Worker(
    service,
    async (job) => {
      ledger.taken(job.stalledCounter > 0, (job.data as { sentAtMs?: number }).sentAtMs)
      if (onStream === 'done') ledger.done()
      else await new Promise<never>(() => {})
    },
    { removeOnComplete: { count: 0 }, ...(settings as Partial<WorkerOptions>), connection },
  )
  worker.on('error', () => undefined)
  await worker.waitUntilReady()
  return {
    leave: async () => {
      await worker.close(true)
      connection.disconnect()
    },
  }
})
