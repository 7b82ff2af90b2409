import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  type CompletedPart,
  type ListMultipartUploadsCommandOutput,
} from '@aws-sdk/client-s3'
import type { CallOptions, Recorded, UploadHandle, WriteLease } from '../driver.ts'
import { Expected, type Bucket } from './client.ts'
import { isUploadGone } from './errors.ts'
import { stat } from './read.ts'

export interface Multipart {
  readonly key: string
  readonly id: string
}

/**
 * Its answer is always waited for, since only the answer names what has to be aborted. `isOnly` is false where an
 * attempt was not answered, and may have begun another upload whose id nobody knows: only its key leads to it.
 */
async function createMultipart(
  bucket: Bucket,
  key: string,
): Promise<{ readonly multipart: Multipart; readonly isOnly: boolean }> {
  const command = () =>
    new CreateMultipartUploadCommand({
      Bucket: bucket.name,
      Key: bucket.full(key),
      ContentType: 'application/octet-stream',
      ...bucket.encryption,
    })
  const { output } = await bucket.send(command, { key })
  if (!output.UploadId) throw new Error(`the storage began an upload of ${key} without an id`)
  return { multipart: { key, id: output.UploadId }, isOnly: (output.$metadata.attempts ?? 1) === 1 }
}

/** Begins an upload that somebody finds again after a crash, at whatever step it comes. */
export async function beginMultipart(bucket: Bucket, key: string, { record }: Recorded): Promise<Multipart> {
  await record?.({ key })
  const { multipart, isOnly } = await createMultipart(bucket, key)
  try {
    if (isOnly) await record?.(multipart)
  } catch (error) {
    await abortMultipart(bucket, multipart, {}).catch(() => {
      // Why it could not be recorded is what has to be told; it was recorded by its key.
    })
    throw error
  }
  return multipart
}

const address = (bucket: Bucket, { key, id }: Multipart) => ({
  Bucket: bucket.name,
  Key: bucket.full(key),
  UploadId: id,
})

/**
 * Makes the parts an object. After a completion whose answer was lost the next attempt meets an upload that is gone:
 * an object of as many bytes in as many parts is then taken for ours (which AWS itself answers by, for a while).
 */
export async function completeMultipart(
  bucket: Bucket,
  multipart: Multipart,
  parts: readonly CompletedPart[],
  { size, ...options }: CallOptions & { readonly size: number; readonly lease?: WriteLease },
): Promise<void> {
  const command = () =>
    new CompleteMultipartUploadCommand({
      ...address(bucket, multipart),
      MultipartUpload: { Parts: parts.toSorted((a, b) => (a.PartNumber ?? 0) - (b.PartNumber ?? 0)) },
    })
  try {
    await bucket.send(command, { ...options, key: multipart.key, isSlow: true, expects: isUploadGone })
  } catch (error) {
    if (!(error instanceof Expected)) throw error
    const { object } = await stat(bucket, multipart.key, {})
    const isOurs = object?.size === size && object.version.endsWith(`-${parts.length}`)
    if (!isOurs || error.fault.attempts < 2) {
      throw new Error(`the upload of ${multipart.key} was aborted by another`, { cause: error })
    }
  }
}

/**
 * Aborts, and again while the storage still shows parts: one that was on its way may arrive after an abort.
 * An upload that has ended is no error.
 */
export async function abortMultipart(
  bucket: Bucket,
  multipart: Multipart,
  options: CallOptions,
): Promise<void> {
  const { key } = multipart
  for (let attempt = 0; attempt < bucket.attempts; attempt++) {
    if (attempt > 0) await bucket.backOff(attempt, options.signal)
    const abort = () => new AbortMultipartUploadCommand(address(bucket, multipart))
    if (await isGone(bucket.send(abort, { ...options, key, expects: isUploadGone }))) return
    const show = () => new ListPartsCommand({ ...address(bucket, multipart), MaxParts: 1 })
    if (await isGone(bucket.send(show, { ...options, key, expects: isUploadGone }))) return
  }
}

async function isGone(request: Promise<unknown>): Promise<boolean> {
  try {
    await request
    return false
  } catch (error) {
    if (error instanceof Expected) return true
    throw error
  }
}

/** See Driver.abortUpload. Listing uploads by a prefix is unreliable (MinIO); by their exact key it works. */
export async function abortUpload(
  bucket: Bucket,
  { key, id }: UploadHandle,
  { begunBefore, signal }: CallOptions & { readonly begunBefore: number },
): Promise<void> {
  const options = signal ? { signal } : {}
  if (id !== undefined) return abortMultipart(bucket, { key, id }, options)
  for (const { id, begun } of await uploadsTo(bucket, key, options)) {
    if (begun < begunBefore) await abortMultipart(bucket, { key, id }, options)
  }
}

async function uploadsTo(bucket: Bucket, key: string, options: CallOptions) {
  const found: { readonly id: string; readonly begun: number }[] = []
  const Key = bucket.full(key)
  let from: UploadMarker | undefined = {}
  while (from) {
    const marker: UploadMarker = from
    const command = () => new ListMultipartUploadsCommand({ Bucket: bucket.name, Prefix: Key, ...marker })
    const { output } = await bucket.send(command, { ...options, key })
    for (const { Key: of, UploadId: id, Initiated } of output.Uploads ?? []) {
      if (of === Key && id !== undefined) found.push({ id, begun: Initiated?.getTime() ?? Infinity })
    }
    from = markerAfter(output, Key)
  }
  return found
}

interface UploadMarker {
  readonly KeyMarker?: string
  readonly UploadIdMarker?: string
}

/** Keys come in order: once another key is the next, all uploads to this one were seen. */
function markerAfter(output: ListMultipartUploadsCommandOutput, key: string): UploadMarker | undefined {
  const { IsTruncated, NextKeyMarker, NextUploadIdMarker } = output
  if (!IsTruncated || NextKeyMarker !== key || NextUploadIdMarker === undefined) return undefined
  return { KeyMarker: NextKeyMarker, UploadIdMarker: NextUploadIdMarker }
}
