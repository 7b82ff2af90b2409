import type { Clock } from '../../clock.ts'
import type { ByteBudget } from '../buffers.ts'
import { ObjectTooLarge } from '../driver.ts'

export interface S3Options {
  readonly bucket: string
  /** Default: AWS_REGION or the AWS configuration file; us-east-1 with an endpoint of one's own. */
  readonly region?: string
  /** A path in the bucket that all keys are below. */
  readonly prefix?: string
  /** The URL of a storage other than AWS. */
  readonly endpoint?: string
  /** http://host/bucket/key instead of http://bucket.host/key. */
  readonly pathStyle?: boolean
  /** Certificates (PEM) of authorities to trust beside the usual ones. */
  readonly ca?: string
  /** Server-side encryption of everything that is written; undefined: what the bucket is set to. */
  readonly sse?: 'AES256' | 'aws:kms'
  readonly kmsKeyId?: string
  /** The size of an upload's first parts, and the largest object that is written in one request. Default 8 MiB. */
  readonly partBytes?: number
  /** What all uploads may hold in memory at once, together. Default 128 MiB; at least one part. */
  readonly uploadMemoryBytes?: number
  /** The same, shared with other drivers of the process. */
  readonly uploadMemory?: ByteBudget
  /** Parts of one upload, or removals of one call, that are on their way at once. Default 4. */
  readonly concurrency?: number
  /** A request and its repetitions take at most this long, and more where many bytes move. Default 30,000. */
  readonly deadlineMs?: number
  /** How often a request is made before its failure counts. Default 4. */
  readonly attempts?: number
  /** The pauses between them begin with up to this. Default 100. */
  readonly retryDelayMs?: number
  readonly clock?: Clock
  readonly log?: { readonly warn: (fields: object, message: string) => void }
}

const mebibyte = 1024 * 1024

/** A part other than the last must have at least this size. */
export const minPartBytes = 5 * mebibyte
export const maxParts = 10_000
/** The largest source of one copy, and of one copied part. */
export const maxCopyBytes = 5 * 1024 * mebibyte

export const defaults = {
  partBytes: 8 * mebibyte,
  uploadMemoryBytes: 128 * mebibyte,
  concurrency: 4,
  deadlineMs: 30_000,
  attempts: 4,
  retryDelayMs: 100,
} as const

/** How parts are cut. */
export interface PartSizes {
  readonly partBytes: number
  readonly largestBytes: number
}

/**
 * The size of the piece that begins at `offset`. It doubles with every thousand pieces, up to the largest that memory
 * allows: with 8 MiB growing to 32 MiB, 10,000 pieces hold 290 GB.
 */
export function pieceBytesAt(offset: number, { partBytes, largestBytes }: PartSizes): number {
  const doublings = Math.floor(Math.log2(1 + offset / (1000 * partBytes)))
  return Math.max(partBytes, Math.min(partBytes * 2 ** doublings, largestBytes))
}

/**
 * The size of all parts of an upload of `size` bytes.
 * @throws ObjectTooLarge where a part would take more than its share of the memory
 */
export function partBytesFor(size: number, { partBytes, largestBytes }: PartSizes): number {
  if (size <= partBytes * maxParts) return partBytes
  const bytes = Math.ceil(size / maxParts / mebibyte) * mebibyte
  if (bytes <= largestBytes) return bytes
  throw new ObjectTooLarge(
    `${size} bytes need parts of ${bytes} bytes, and the memory for uploads allows ${largestBytes} each: raise --upload-memory`,
  )
}
