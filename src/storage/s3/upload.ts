import { UploadPartCommand, type CompletedPart } from '@aws-sdk/client-s3'
import { ObjectTooLarge, type Upload, type UploadOptions, type WriteLease } from '../driver.ts'
import type { Bucket } from './client.ts'
import { abortMultipart, beginMultipart, completeMultipart, type Multipart } from './multipart.ts'
import { maxParts, partBytesFor, pieceBytesAt } from './options.ts'
import { Pieces, type Piece } from './pieces.ts'
import { write } from './write.ts'

/**
 * A body that fits into one part is held whole, and written in one request when it is completed: a body is never
 * streamed into an object of its own, where a server that ignores checksums would show unverified bytes. A larger one
 * becomes a multipart upload when its first byte beyond the first part comes.
 */
export function openUpload(bucket: Bucket, key: string, options: UploadOptions): Upload {
  const ended = new AbortController()
  const signal = options.signal ? AbortSignal.any([options.signal, ended.signal]) : ended.signal
  const parts: CompletedPart[] = []
  let beginning: Promise<Multipart> | undefined
  let state: 'open' | 'completed' | 'aborted' = 'open'

  const begin = (): Promise<Multipart> => {
    signal.throwIfAborted()
    return beginMultipart(bucket, key, options)
  }
  const send = async ({ index, bytes }: Piece): Promise<void> => {
    if (index >= maxParts) throw new ObjectTooLarge(`${key} would have more than ${maxParts} parts`)
    const multipart = await (beginning ??= begin())
    parts.push(await uploadPart(bucket, multipart, index + 1, bytes, { signal }))
  }
  const { size } = options
  const knownBytes = size === undefined ? 0 : partBytesFor(size, bucket.sizes)
  const pieces = new Pieces({
    memory: bucket.memory,
    concurrency: bucket.concurrency,
    // A body may turn out longer than it was said to be.
    sizeAt: (offset) =>
      size === undefined || offset >= size
        ? pieceBytesAt(offset, bucket.sizes)
        : Math.min(knownBytes, size - offset),
    send,
    signal,
  })

  const completeWhole = (options: { readonly lease?: WriteLease }) =>
    write(bucket, key, pieces.current?.bytes ?? Buffer.alloc(0), { ...options, signal })
  const completeParts = async (multipart: Promise<Multipart>, options: { readonly lease?: WriteLease }) => {
    await pieces.sendAll()
    await completeMultipart(bucket, await multipart, parts, { ...options, size: pieces.size, signal })
  }

  return {
    async write(chunk) {
      if (state !== 'open') throw new Error('the upload has ended')
      await pieces.write(chunk)
    },
    async complete(options = {}) {
      if (state !== 'open') throw new Error('the upload has ended')
      await (beginning ? completeParts(beginning, options) : completeWhole(options))
      state = 'completed'
      pieces.free()
    },
    async abort() {
      if (state !== 'open') return
      state = 'aborted'
      ended.abort(new Error('the upload was aborted'))
      await pieces.settle()
      pieces.free()
      const multipart = await beginning?.catch(() => undefined)
      if (multipart) await abortMultipart(bucket, multipart, {})
    },
  }
}

export async function uploadPart(
  bucket: Bucket,
  { key, id }: Multipart,
  number: number,
  bytes: Buffer,
  options: { readonly signal?: AbortSignal },
): Promise<CompletedPart> {
  const command = () =>
    new UploadPartCommand({
      Bucket: bucket.name,
      Key: bucket.full(key),
      UploadId: id,
      PartNumber: number,
      Body: bytes,
      ContentLength: bytes.length,
    })
  const { output } = await bucket.send(command, { ...options, key, bytes: bytes.length })
  return { PartNumber: number, ...(output.ETag !== undefined && { ETag: output.ETag }) }
}
