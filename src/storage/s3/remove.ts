import { DeleteObjectCommand, DeleteObjectsCommand } from '@aws-sdk/client-s3'
import { StorageUnavailable, type CallOptions, type RemoveLease } from '../driver.ts'
import { Expected, type Bucket } from './client.ts'
import { isNoSuchKey, isRefusal, isTransient, translate, type Fault } from './errors.ts'
import { inParallel } from '../parallel.ts'
import { stat } from './read.ts'

/** The most keys of one DeleteObjects. */
const batchKeys = 1000

export async function remove(
  bucket: Bucket,
  keys: readonly string[],
  { lease, signal }: CallOptions & { readonly lease?: RemoveLease },
): Promise<void> {
  signal?.throwIfAborted()
  if (lease) return removeWithLease(bucket, keys, lease, signal)
  const batches = Array.from({ length: Math.ceil(keys.length / batchKeys) }, (_, index) =>
    keys.slice(index * batchKeys, (index + 1) * batchKeys),
  )
  await inParallel(batches, bucket.concurrency, (batch) => removeBatch(bucket, batch, signal))
}

/** One request answers for each key; those that failed for the moment are asked for again. */
async function removeBatch(
  bucket: Bucket,
  batch: readonly string[],
  signal: AbortSignal | undefined,
): Promise<void> {
  let left = batch
  for (let attempt = 0; ; attempt++) {
    const failed = await removeOnce(bucket, left, signal)
    const [first] = failed
    if (!first) return
    if (attempt + 1 >= bucket.attempts || failed.some(({ fault }) => !isTransient(fault))) {
      const { key, fault } = first
      const error = Object.assign(new Error(fault.message), {
        name: fault.code,
        $metadata: { httpStatusCode: fault.status },
      })
      throw translate(error, { target: `${bucket.name}/${bucket.full(key)}`, key })
    }
    await bucket.backOff(attempt, signal)
    left = failed.map(({ key }) => key)
  }
}

async function removeOnce(bucket: Bucket, keys: readonly string[], signal: AbortSignal | undefined) {
  const [first = ''] = keys
  const Objects = keys.map((key) => ({ Key: bucket.full(key) }))
  const command = () => new DeleteObjectsCommand({ Bucket: bucket.name, Delete: { Objects, Quiet: true } })
  const { output } = await bucket.send(command, { key: first, ...(signal && { signal }) })
  return (output.Errors ?? [])
    .filter(({ Code }) => Code !== 'NoSuchKey')
    .map(({ Key = '', Code = 'InternalError', Message = '' }) => {
      const status = Code === 'SlowDown' ? 503 : Code === 'InternalError' ? 500 : 403
      const fault: Fault = { status, code: Code, message: Message, attempts: 1, isSkewCorrected: false }
      return { key: bucket.short(Key), fault }
    })
}

/**
 * Each key by a request of its own, whose signature ends with the lease: DeleteObjects cannot be presigned. It returns
 * or throws only when every attempt was answered or can no longer take effect, whatever `signal` says: a late removal
 * would take away what somebody has put back in the meantime.
 */
async function removeWithLease(
  bucket: Bucket,
  keys: readonly string[],
  lease: RemoveLease,
  signal: AbortSignal | undefined,
): Promise<void> {
  const begun = bucket.clock.monotonic()
  let isUnanswered = false
  try {
    await inParallel(keys, bucket.concurrency * 4, async (key) => {
      signal?.throwIfAborted()
      await removeUntilAnswered(bucket, key, lease, () => {
        isUnanswered = true
      })
    })
  } finally {
    if (isUnanswered) await waitUntilOver(bucket, lease, begun)
  }
}

async function removeUntilAnswered(
  bucket: Bucket,
  key: string,
  lease: RemoveLease,
  noteUnanswered: () => void,
): Promise<void> {
  const command = () => new DeleteObjectCommand({ Bucket: bucket.name, Key: bucket.full(key) })
  const expects = (fault: Fault) => isTransient(fault) || isNoSuchKey(fault)
  for (let attempt = 0; ; attempt++) {
    try {
      await bucket.send(command, { key, lease, signature: 'query', onlyAnswered: true, expects })
      return
    } catch (error) {
      if (!(error instanceof Expected)) throw error
      if (isNoSuchKey(error.fault)) return
      if (!isRefusal(error.fault)) noteUnanswered()
      if (attempt + 1 >= bucket.attempts) {
        throw new StorageUnavailable(`the storage did not answer to the removal of ${key}`, { cause: error })
      }
      await bucket.backOff(attempt)
    }
  }
}

/**
 * Returns when the storage's own clock has passed the lease. Where the storage does not tell its time, as much time
 * as the lease lasts has passed on our monotonic clock since before the removal: the lease's date was not ahead of the
 * storage's clock then.
 */
async function waitUntilOver(bucket: Bucket, lease: RemoveLease, begun: number): Promise<void> {
  // Signatures and Date headers know whole seconds.
  const over = lease.date + lease.durationMs + 1000
  const latest = begun + lease.durationMs + 2000
  for (;;) {
    const date = await stat(bucket, 'clock', {}).then(
      (answer) => answer.date,
      () => undefined,
    )
    const now = bucket.clock.monotonic()
    if ((date !== undefined && date > over) || now > latest) return
    const leftMs = date === undefined ? latest - now : over - date
    await bucket.clock.sleep(Math.min(Math.max(leftMs, 100), 1000))
  }
}
