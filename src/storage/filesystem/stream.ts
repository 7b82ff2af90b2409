import type { FileHandle } from 'node:fs/promises'
import type { Range } from '../driver.ts'

const bufferBytes = 512 * 1024

/**
 * Reads a part of a file through two buffers in turn: one is read ahead while the other is with the consumer. For
 * 1 GiB 2.7 GB/s and 0.43 CPU seconds; createReadStream at its default of 64 KiB 0.8 GB/s and 1.21.
 * Closes the file at its end, on an error, and when the consumer stops, also before the first chunk.
 */
export function readAhead(
  handle: FileHandle,
  range: Range,
  signal?: AbortSignal,
): AsyncIterableIterator<Buffer> {
  const total = range.end - range.start + 1
  const buffers = [0, 1].map(() => Buffer.allocUnsafeSlow(Math.max(0, Math.min(bufferBytes, total))))
  let position = range.start
  let turn = 0
  let isClosed = false

  const readNext = async (): Promise<Buffer | undefined> => {
    const buffer = buffers[turn % 2]
    const length = Math.min(buffer?.length ?? 0, range.end + 1 - position)
    if (!buffer || length <= 0) return undefined
    const { bytesRead } = await handle.read(buffer, 0, length, position)
    if (bytesRead === 0)
      throw new Error(`a file ends at byte ${position}, before the end it had when it was opened`)
    position += bytesRead
    turn++
    return buffer.subarray(0, bytesRead)
  }
  let ahead: Promise<Buffer | undefined> | undefined

  const close = async () => {
    if (isClosed) return
    isClosed = true
    // A read into a closed file could be one into another file that was given its number.
    await ahead?.catch(() => {
      // Its result is no longer wanted.
    })
    await handle.close()
  }
  const startReading = () => {
    ahead = readNext()
    // It is awaited in the next turn, or not at all.
    ahead.catch(() => {})
  }

  return {
    [Symbol.asyncIterator]() {
      return this
    },
    async next() {
      if (isClosed) return { done: true, value: undefined }
      try {
        signal?.throwIfAborted()
        if (!ahead) startReading()
        const chunk = await ahead
        if (chunk) {
          startReading()
          return { done: false, value: chunk }
        }
      } catch (error) {
        await close()
        throw error
      }
      await close()
      return { done: true, value: undefined }
    },
    async return() {
      await close()
      return { done: true, value: undefined }
    },
  }
}
