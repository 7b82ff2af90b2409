/**
 * The driver on S3 and what speaks like it. What each file in s3/ holds:
 *
 * | file                                   | what                                                             |
 * | -------------------------------------- | ---------------------------------------------------------------- |
 * | options.ts                             | settings, the limits of S3, the sizes of parts                   |
 * | client.ts                              | one bucket: how a request is made, timed, repeated               |
 * | signing.ts                             | signatures with a date of our own: leases, URLs for clients      |
 * | errors.ts                              | what servers answer, and what it means here                      |
 * | read.ts, list.ts, write.ts, remove.ts  | the verbs                                                        |
 * | small-reads.ts                         | reads past the SDK, which costs more than the storage            |
 * | pieces.ts                              | cuts a stream into pieces, within the memory of buffers.ts       |
 * | upload.ts, append.ts, compose.ts, multipart.ts | large objects                                            |
 */
import { GetObjectCommand, HeadObjectCommand } from '@aws-sdk/client-s3'
import type { Driver } from './driver.ts'
import { checkKey, keyFault } from './keys.ts'
import { openAppend } from './s3/append.ts'
import { openBucket } from './s3/client.ts'
import { compose } from './s3/compose.ts'
import { list, listNames } from './s3/list.ts'
import { abortUpload } from './s3/multipart.ts'
import type { S3Options } from './s3/options.ts'
import { stat, stream } from './s3/read.ts'
import { remove } from './s3/remove.ts'
import { presignCommand } from './s3/signing.ts'
import { openSmallReads } from './s3/small-reads.ts'
import { openUpload } from './s3/upload.ts'
import { write } from './s3/write.ts'

export type { S3Options } from './s3/options.ts'

export function s3Driver(options: S3Options): Driver {
  const bucket = openBucket(options)
  const smallReads = openSmallReads(bucket, options)
  return {
    async stat(key, options = {}) {
      checkKey(key)
      return stat(bucket, key, options)
    },
    async read(key, options = {}) {
      return keyFault(key) ? undefined : smallReads.read(key, options)
    },
    async stream(key, options = {}) {
      return keyFault(key) ? undefined : stream(bucket, key, options)
    },
    async write(key, bytes, options = {}) {
      checkKey(key)
      await write(bucket, key, bytes, options)
    },
    async upload(key, options) {
      checkKey(key)
      return openUpload(bucket, key, options)
    },
    async append(prefix, offset, options = {}) {
      checkKey(`${prefix}0`)
      return openAppend(bucket, prefix, offset, options)
    },
    async compose(sources, key, options = {}) {
      checkKey(key)
      await compose(bucket, sources, key, options)
    },
    async *list(prefix, options = {}) {
      if (mayBegin(prefix)) yield* list(bucket, prefix, options)
    },
    async *listNames(folder, options = {}) {
      if (mayBegin(folder)) yield* listNames(bucket, folder, options)
    },
    async remove(keys, options = {}) {
      await remove(
        bucket,
        keys.filter((key) => !keyFault(key)),
        options,
      )
    },
    abortUpload: (upload, options) => abortUpload(bucket, upload, options),
    async presign(key, method, seconds) {
      const input = { Bucket: bucket.name, Key: bucket.full(key) }
      const command = method === 'GET' ? new GetObjectCommand(input) : new HeadObjectCommand(input)
      const { url } = await presignCommand(bucket.client, command, seconds, bucket.clock)
      return url.href
    },
    async close() {
      smallReads.close()
      bucket.close()
    },
  }
}

/**
 * Whether there can be a key that begins so. What cannot is not asked for: some servers refuse it, and one that keeps
 * objects as files may be led out of the folder (versitygw).
 */
const mayBegin = (prefix: string) => prefix === '' || !keyFault(prefix.replace(/[^/]*$/, 'x'))
