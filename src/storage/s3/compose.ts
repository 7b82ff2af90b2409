import { CopyObjectCommand, UploadPartCopyCommand, type CompletedPart } from '@aws-sdk/client-s3'
import {
  ObjectTooLarge,
  PreconditionFailed,
  type ComposeOptions,
  type Listed,
  type Range,
} from '../driver.ts'
import { Expected, type Bucket } from './client.ts'
import { isNoSuchKey } from './errors.ts'
import { abortMultipart, beginMultipart, completeMultipart, type Multipart } from './multipart.ts'
import { maxCopyBytes, maxParts, minPartBytes } from './options.ts'
import { inParallel } from '../parallel.ts'
import { etagOf, read, stat } from './read.ts'
import { uploadPart } from './upload.ts'
import { write } from './write.ts'

/** A part of the object: copied by the storage, or read and sent by us. */
export interface PlannedPart {
  readonly kind: 'copy' | 'join'
  /** For a copy exactly one. */
  readonly slices: readonly Slice[]
}

export interface Slice {
  readonly source: Listed
  readonly range: Range
}

export async function compose(
  bucket: Bucket,
  sources: readonly Listed[],
  key: string,
  options: ComposeOptions,
): Promise<void> {
  const [first] = sources
  const size = sources.reduce((sum, { object }) => sum + object.size, 0)
  if (first && sources.length === 1 && size <= maxCopyBytes) return copyObject(bucket, first, key, options)
  if (size <= bucket.sizes.partBytes) return joinObject(bucket, sources, size, key, options)
  await inParallel(
    sources.filter(({ object }) => object.size === 0),
    bucket.concurrency,
    (source) => checkEmpty(bucket, source, options),
  )
  await composeParts(bucket, planParts(sources), size, key, options)
}

async function copyObject(
  bucket: Bucket,
  source: Listed,
  key: string,
  options: ComposeOptions,
): Promise<void> {
  const command = () =>
    new CopyObjectCommand({
      Bucket: bucket.name,
      Key: bucket.full(key),
      ...copySource(bucket, source),
      ...bucket.encryption,
    })
  await copying(source, () => bucket.send(command, { ...options, key, isSlow: true, expects: isNoSuchKey }))
}

const copySource = (bucket: Bucket, { key, object }: Listed) => ({
  CopySource: `${bucket.name}/${encodeURIComponent(bucket.full(key)).replaceAll('%2F', '/')}`,
  CopySourceIfMatch: etagOf(object.version),
})

/** A condition that does not hold, and an object that is not there, are about the source. */
async function copying<T>(source: Listed, request: () => Promise<T>): Promise<T> {
  try {
    return await request()
  } catch (error) {
    if (error instanceof PreconditionFailed || error instanceof Expected) {
      throw new PreconditionFailed(source.key, { cause: error })
    }
    throw error
  }
}

async function checkEmpty(bucket: Bucket, { key, object }: Listed, options: ComposeOptions): Promise<void> {
  const found = await stat(bucket, key, options)
  if (found.object?.version !== object.version) throw new PreconditionFailed(key)
}

async function joinObject(
  bucket: Bucket,
  sources: readonly Listed[],
  size: number,
  key: string,
  options: ComposeOptions,
): Promise<void> {
  const release = await bucket.memory.acquire(size, options.signal)
  try {
    const bytes = await readSlices(bucket, sources.map(wholeOf), options)
    await write(bucket, key, bytes, options)
  } finally {
    release()
  }
}

const wholeOf = (source: Listed): Slice => ({ source, range: { start: 0, end: source.object.size - 1 } })

async function readSlices(
  bucket: Bucket,
  slices: readonly Slice[],
  { signal }: ComposeOptions,
): Promise<Buffer> {
  const parts: Buffer[] = []
  await inParallel(slices, bucket.concurrency, async ({ source: { key, object }, range }, index) => {
    const isWhole = range.start === 0 && range.end === object.size - 1
    const bytes = await read(bucket, key, {
      version: object.version,
      maxBytes: object.size,
      ...(!isWhole && { range }),
      ...(signal && { signal }),
    })
    if (!bytes) throw new PreconditionFailed(key)
    parts[index] = bytes
  })
  return Buffer.concat(parts)
}

/**
 * Cuts the sources into parts of at least `minPartBytes` each, except the last. A source that is large enough is
 * copied; small ones are joined, and where they do not suffice, with the beginning of what follows. Of a source that
 * gives its beginning away at least `minPartBytes` stay, since S3 copies ranges only of objects larger than that.
 */
export function planParts(sources: readonly Listed[]): PlannedPart[] {
  const total = sources.reduce((sum, { object }) => sum + object.size, 0)
  const wantedBytes = Math.max(minPartBytes, Math.ceil((2 * total) / maxParts))
  const parts: PlannedPart[] = []
  let joined: Slice[] = []
  let joinedBytes = 0
  const flush = () => {
    if (joined.length > 0) parts.push({ kind: 'join', slices: joined })
    joined = []
    joinedBytes = 0
  }
  const join = (source: Listed, start: number, end: number) => {
    joined.push({ source, range: { start, end } })
    joinedBytes += end - start + 1
    if (joinedBytes >= wantedBytes) flush()
  }
  for (const [index, source] of sources.entries()) {
    const { size } = source.object
    const isLast = index === sources.length - 1
    const missing = joinedBytes === 0 ? 0 : Math.max(0, minPartBytes - joinedBytes)
    if (size === 0) continue
    if (size - missing < minPartBytes && !(isLast && missing === 0)) {
      join(source, 0, size - 1)
      continue
    }
    if (missing > 0) join(source, 0, missing - 1)
    flush()
    parts.push(...copies(source, missing))
  }
  flush()
  return parts
}

function copies(source: Listed, from: number): PlannedPart[] {
  const { size } = source.object
  const count = Math.ceil((size - from) / maxCopyBytes)
  const bytes = Math.ceil((size - from) / count)
  return Array.from({ length: count }, (_, index) => {
    const start = from + index * bytes
    const range = { start, end: Math.min(size, start + bytes) - 1 }
    return { kind: 'copy', slices: [{ source, range }] }
  })
}

async function composeParts(
  bucket: Bucket,
  plan: readonly PlannedPart[],
  size: number,
  key: string,
  options: ComposeOptions,
): Promise<void> {
  const { lease, signal } = options
  const calls = signal ? { signal } : {}
  if (plan.length > maxParts) throw new ObjectTooLarge(`${key} would have more than ${maxParts} parts`)
  const multipart = await beginMultipart(bucket, key, options)
  try {
    const parts: CompletedPart[] = []
    await inParallel(plan, bucket.concurrency, async (part, index) => {
      parts.push(await sendPart(bucket, multipart, part, index + 1, calls))
    })
    await completeMultipart(bucket, multipart, parts, { ...calls, size, ...(lease && { lease }) })
  } catch (error) {
    await abortMultipart(bucket, multipart, {}).catch(() => {
      // What failed first is what has to be told.
    })
    throw error
  }
}

async function sendPart(
  bucket: Bucket,
  multipart: Multipart,
  { kind, slices }: PlannedPart,
  number: number,
  options: { readonly signal?: AbortSignal },
): Promise<CompletedPart> {
  const [first] = slices
  if (kind === 'copy' && first) return copyPart(bucket, multipart, first, number, options)
  const bytes = slices.reduce((sum, { range }) => sum + range.end - range.start + 1, 0)
  const release = await bucket.memory.acquire(bytes, options.signal)
  try {
    return await uploadPart(bucket, multipart, number, await readSlices(bucket, slices, options), options)
  } finally {
    release()
  }
}

async function copyPart(
  bucket: Bucket,
  { key, id }: Multipart,
  { source, range }: Slice,
  number: number,
  options: { readonly signal?: AbortSignal },
): Promise<CompletedPart> {
  const isWhole = range.start === 0 && range.end === source.object.size - 1
  const command = () =>
    new UploadPartCopyCommand({
      Bucket: bucket.name,
      Key: bucket.full(key),
      UploadId: id,
      PartNumber: number,
      ...copySource(bucket, source),
      ...(!isWhole && { CopySourceRange: `bytes=${range.start}-${range.end}` }),
    })
  const { output } = await copying(source, () =>
    bucket.send(command, { ...options, key, isSlow: true, expects: isNoSuchKey }),
  )
  const { ETag } = output.CopyPartResult ?? {}
  return { PartNumber: number, ...(ETag !== undefined && { ETag }) }
}
