/**
 * A message with a large Info, kept as the bytes it came in. As objects an Info can take ten times the memory, and the
 * garbage collector visits all of them again and again, which it does not do with bytes. Info is parsed again when it is
 * read, and stays the same object as long as something refers to it.
 */
import { decodeLbsMessage, type JsonObject, type LbsMessage } from '@redis-stream-client/notifs'
import type { AssignedMessage } from './assigned-message.js'

/** Messages up to this length are kept as objects. */
export const LARGE_MESSAGE_BYTES: number = 16 * 1024

export class LargeMessage implements AssignedMessage {
  readonly dataStreamName: string
  /** Kept as an object: only the schema could make it again. */
  checkedInfo?: { readonly value: unknown }
  readonly #bytes: Uint8Array
  readonly #infoNumbers: 'text' | 'refuse'
  #info: WeakRef<JsonObject>

  /** `bytes` must be those that `message` was read from; they are copied. */
  constructor(
    message: Required<LbsMessage>,
    { bytes, infoNumbers }: { readonly bytes: Uint8Array; readonly infoNumbers: 'text' | 'refuse' },
  ) {
    this.dataStreamName = message.dataStreamName
    this.#bytes = Uint8Array.from(bytes) // a part of what was received would keep all of that
    this.#infoNumbers = infoNumbers
    this.#info = new WeakRef(message.info)
  }

  get info(): JsonObject {
    const known = this.#info.deref()
    if (known !== undefined) return known
    const { info = {} } = decodeLbsMessage(this.#bytes, { infoNumbers: this.#infoNumbers })
    this.#info = new WeakRef(info)
    return info
  }
}
