import { PutObjectCommand } from '@aws-sdk/client-s3'
import { PreconditionFailed, type ObjectInfo, type WriteOptions } from '../driver.ts'
import { sha256, type Bucket } from './client.ts'
import { faultOf } from './errors.ts'
import { read, stat, versionOf } from './read.ts'

/**
 * One object in one request. The storage checks the bytes by their SHA-256, and with `ifAbsent` refuses a key that
 * exists. An attempt whose answer was lost may have written it: the next one then meets its own object, and the
 * PreconditionFailed that comes of it is not proof of another writer. Who cares reads the object back (createOnce).
 */
export async function write(
  bucket: Bucket,
  key: string,
  bytes: Uint8Array,
  { ifAbsent = false, lease, isRepeatable = true, signal }: WriteOptions,
): Promise<ObjectInfo> {
  const checksum = (await sha256(bytes)).toString('base64')
  const command = () =>
    new PutObjectCommand({
      Bucket: bucket.name,
      Key: bucket.full(key),
      Body: bytes,
      ContentLength: bytes.length,
      ContentType: 'application/octet-stream',
      ChecksumSHA256: checksum,
      ...(ifAbsent && { IfNoneMatch: '*' }),
      ...bucket.encryption,
    })
  const { output, date } = await bucket.send(command, {
    key,
    bytes: bytes.length,
    onlyAnswered: !isRepeatable,
    ...(lease && { lease }),
    ...(signal && { signal }),
  })
  return { size: bytes.length, modified: date, version: versionOf(output.ETag) }
}

/**
 * Creates an object that must not exist. Where it does, and holds these very bytes, and our first attempt was not
 * answered, it is taken for our own.
 */
export async function createOnce(
  bucket: Bucket,
  key: string,
  bytes: Uint8Array,
  options: { readonly signal?: AbortSignal },
): Promise<ObjectInfo> {
  try {
    return await write(bucket, key, bytes, { ...options, ifAbsent: true })
  } catch (error) {
    if (!(error instanceof PreconditionFailed) || attemptsOf(error) < 2) throw error
    const { object } = await stat(bucket, key, options)
    if (object?.size !== bytes.length) throw error
    const stored = await read(bucket, key, { ...options, version: object.version, maxBytes: bytes.length })
    if (!stored?.equals(bytes)) throw error
    return object
  }
}

const attemptsOf = (error: Error) => faultOf(error.cause).attempts
