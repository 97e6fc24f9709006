/** A type of the DOM that the declarations of @msgpack/msgpack name. */
type BufferSource = ArrayBufferView | ArrayBuffer
