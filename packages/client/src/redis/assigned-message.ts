/** What an entry of the LBS assigns, with what `infoSchema` has made of its Info. */
import type { JsonObject, LbsMessage } from '@redis-stream-client/notifs'
import { freezeJson } from '@redis-stream-client/notifs/internal'

export interface AssignedMessage extends LbsMessage {
  /** What the schema has answered for Info; left out without a schema. */
  checkedInfo?: { readonly value: unknown }
}

const EMPTY_INFO: JsonObject = Object.freeze({})

/**
 * What the application gets as `additionalInfo`. The answer of a schema can be anything: only the public types of the
 * client tell what it is. It belongs to the application and so it is not frozen. Info itself is, and only now, because
 * the time that takes grows with its size.
 */
export function additionalInfoOf(message: AssignedMessage): JsonObject {
  const { checkedInfo } = message
  return checkedInfo === undefined
    ? freezeJson(message.info ?? EMPTY_INFO)
    : (checkedInfo.value as JsonObject)
}
