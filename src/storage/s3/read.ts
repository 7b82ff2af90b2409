import { GetObjectCommand, HeadObjectCommand, type GetObjectCommandOutput } from '@aws-sdk/client-s3'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import {
  PreconditionFailed,
  StorageUnavailable,
  type CallOptions,
  type ObjectInfo,
  type ObjectStream,
  type Range,
  type Stat,
} from '../driver.ts'
import { Expected, type Bucket } from './client.ts'
import { faultOf, isHeadAbsent, isNoSuchKey, isTransient } from './errors.ts'

export const defaultMaxBytes = 16 * 1024 * 1024

/** An ETag as `ObjectInfo.version`: without its quotes, which some servers leave out of listings. */
export function versionOf(etag: string | undefined): string {
  return (etag ?? '').replace(/^W\//, '').replaceAll('"', '')
}

export const etagOf = (version: string) => `"${version}"`

export async function stat(bucket: Bucket, key: string, options: CallOptions): Promise<Stat> {
  try {
    const command = () => new HeadObjectCommand({ Bucket: bucket.name, Key: bucket.full(key) })
    const { output, date } = await bucket.send(command, { ...options, key, expects: isHeadAbsent })
    const { ContentLength: size = 0, LastModified, ETag } = output
    return { date, object: { size, modified: LastModified?.getTime() ?? date, version: versionOf(ETag) } }
  } catch (error) {
    if (!(error instanceof Expected)) throw error
    const { date } = error.fault
    if (date === undefined) throw new Error('the storage answers without a Date header', { cause: error })
    return { date }
  }
}

interface GetOptions extends CallOptions {
  readonly range?: Range
  /** Only this version: another is a PreconditionFailed. */
  readonly version?: string
}

interface Got {
  readonly object: ObjectInfo
  readonly body: Readable
}

async function get(
  bucket: Bucket,
  key: string,
  { range, version, signal }: GetOptions,
): Promise<Got | undefined> {
  const command = () =>
    new GetObjectCommand({
      Bucket: bucket.name,
      Key: bucket.full(key),
      ...(range && { Range: `bytes=${range.start}-${range.end}` }),
      ...(version !== undefined && { IfMatch: etagOf(version) }),
    })
  try {
    const { output, date } = await bucket.send(command, {
      key,
      expects: isNoSuchKey,
      ...(signal && { signal }),
    })
    return { object: objectOf(output, date), body: bodyOf(output) }
  } catch (error) {
    if (error instanceof Expected) return undefined
    throw error
  }
}

function objectOf(output: GetObjectCommandOutput, date: number): ObjectInfo {
  const whole = output.ContentRange?.split('/')[1]
  return {
    size: whole === undefined ? (output.ContentLength ?? 0) : Number(whole),
    modified: output.LastModified?.getTime() ?? date,
    version: versionOf(output.ETag),
  }
}

function bodyOf({ Body }: GetObjectCommandOutput): Readable {
  if (!(Body instanceof Readable)) throw new Error('the answer of the storage has no body')
  return Body
}

/** Bytes of a known size, or those of one version of an object. */
export async function read(
  bucket: Bucket,
  key: string,
  { maxBytes = defaultMaxBytes, ...options }: GetOptions & { readonly maxBytes?: number },
): Promise<Buffer | undefined> {
  for (let attempt = 0; ; attempt++) {
    const got = await get(bucket, key, options)
    if (!got) return undefined
    const { range } = options
    const expected = range ? range.end - range.start + 1 : got.object.size
    if (expected > maxBytes) {
      got.body.destroy()
      throw new Error(`${key} has ${expected} bytes, and at most ${maxBytes} were expected`)
    }
    try {
      return await readAll(got.body, expected, options.signal)
    } catch (error) {
      options.signal?.throwIfAborted()
      if (attempt + 1 >= bucket.attempts) throw cutOff(key, error)
      await bucket.backOff(attempt, options.signal)
    }
  }
}

async function readAll(body: Readable, expected: number, signal?: AbortSignal): Promise<Buffer> {
  const bytes = await whileWatched(body, signal, () => buffer(body))
  if (bytes.length !== expected) throw new Error(`${bytes.length} of ${expected} bytes came`)
  return bytes
}

const cutOff = (key: string, cause: unknown) =>
  new StorageUnavailable(`the storage broke off the bytes of ${key}: ${faultOf(cause).message}`, { cause })

/** The longest that the next bytes of a body may take. */
const idleMs = 30_000

/** Destroys the body when the caller has gone, or when nothing comes. */
async function whileWatched<T>(
  body: Readable,
  signal: AbortSignal | undefined,
  read: () => Promise<T>,
): Promise<T> {
  const leave = () => {
    body.destroy(signal?.reason instanceof Error ? signal.reason : new Error('aborted'))
  }
  const timer = setTimeout(() => body.destroy(new Error(`no bytes within ${idleMs} ms`)), idleMs)
  if (signal?.aborted) leave()
  signal?.addEventListener('abort', leave, { once: true })
  try {
    return await read()
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', leave)
  }
}

export async function stream(
  bucket: Bucket,
  key: string,
  { range, signal }: CallOptions & { readonly range?: Range },
): Promise<ObjectStream | undefined> {
  const got = await get(bucket, key, { ...(range && { range }), ...(signal && { signal }) })
  if (!got) return undefined
  const wanted = range ?? { start: 0, end: got.object.size - 1 }
  return { object: got.object, body: resumed(bucket, key, got, wanted, signal) }
}

/** The bytes of a range; where they break off, the rest is asked for, of the same version. */
async function* resumed(
  bucket: Bucket,
  key: string,
  got: Got,
  { start, end }: Range,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  let { body } = got
  let at = start
  for (let failures = 0; ; failures++) {
    try {
      for await (const chunk of watchedChunks(body, signal)) {
        at += chunk.length
        failures = 0
        yield chunk
      }
      if (at > end) return
      throw new Error(`${at - start} of ${end - start + 1} bytes came`)
    } catch (error) {
      signal?.throwIfAborted()
      if (at > end) return
      if (failures + 1 >= bucket.attempts || !isTransient(faultOf(error))) throw cutOff(key, error)
      await bucket.backOff(failures, signal)
    }
    body = await rest(bucket, key, {
      range: { start: at, end },
      version: got.object.version,
      ...(signal && { signal }),
    })
  }
}

async function rest(bucket: Bucket, key: string, options: GetOptions): Promise<Readable> {
  const got = await get(bucket, key, options)
  if (!got) throw new PreconditionFailed(key)
  return got.body
}

async function* watchedChunks(body: Readable, signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
  const chunks: AsyncIterator<Buffer> = body[Symbol.asyncIterator]()
  try {
    for (;;) {
      const next = await whileWatched(body, signal, () => chunks.next())
      if (next.done) return
      yield next.value
    }
  } finally {
    body.destroy()
  }
}
