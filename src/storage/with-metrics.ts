import type { Clock } from '../clock.ts'
import type { StorageMetrics, StorageOutcome } from '../telemetry/metrics.ts'
import {
  LeaseExpired,
  PreconditionFailed,
  StorageUnavailable,
  type Append,
  type Driver,
  type Upload,
} from './driver.ts'

export interface MeasureOptions {
  readonly clock: Pick<Clock, 'monotonic'>
  readonly metrics: StorageMetrics
}

/**
 * The same driver, each of whose operations is counted and timed. The time is the storage's: of a stream and a listing
 * that to the first answer, of an upload that of its completion, whatever its client took to send it.
 */
export function withMetrics(driver: Driver, options: MeasureOptions): Driver {
  const measure = measuring(options)
  const { sweepTemporary, presign, revokeRemovals } = driver
  return {
    ...driver,
    stat: (key, call) => measure('stat', () => driver.stat(key, call)),
    read: (key, call) => measure('read', () => driver.read(key, call)),
    write: (key, bytes, call) => measure('write', () => driver.write(key, bytes, call)),
    compose: (sources, key, call) => measure('compose', () => driver.compose(sources, key, call)),
    remove: (keys, call) => measure('remove', () => driver.remove(keys, call)),
    abortUpload: (upload, call) => measure('abort_upload', () => driver.abortUpload(upload, call)),
    list: (prefix, call) => measureListing('list', driver.list(prefix, call), options),
    listNames: (folder, call) => measureListing('list_names', driver.listNames(folder, call), options),

    async stream(key, call) {
      const found = await measure('stream', () => driver.stream(key, call))
      return found && { ...found, body: countFailures(found.body, options.metrics) }
    },
    async upload(key, call) {
      return measureUpload(await measure('upload', () => driver.upload(key, call)), options)
    },
    async append(prefix, offset, call) {
      return measureAppend(await measure('append', () => driver.append(prefix, offset, call)), options)
    },
    ...(sweepTemporary && {
      sweepTemporary: (olderThanMs: number) =>
        measure('sweep_temporary', () => sweepTemporary.call(driver, olderThanMs)),
    }),
    ...(presign && {
      presign: (key: string, method: 'GET' | 'HEAD', seconds: number) =>
        measure('presign', () => presign.call(driver, key, method, seconds)),
    }),
    ...(revokeRemovals && {
      revokeRemovals: (round: string) => measure('revoke_removals', () => revokeRemovals.call(driver, round)),
    }),
  }
}

function measuring({ clock, metrics }: MeasureOptions) {
  return async <T>(verb: string, run: () => Promise<T>): Promise<T> => {
    const began = clock.monotonic()
    try {
      const result = await run()
      metrics.operationEnded(verb, 'ok', (clock.monotonic() - began) / 1000)
      return result
    } catch (error) {
      metrics.operationEnded(verb, outcomeOf(error), (clock.monotonic() - began) / 1000)
      throw error
    }
  }
}

/** What a condition or a lease refused went as it should: it is no failure of the storage. */
function outcomeOf(error: unknown): StorageOutcome {
  if (error instanceof PreconditionFailed || error instanceof LeaseExpired) return 'refused'
  if (error instanceof StorageUnavailable) return 'unavailable'
  return isAbort(error) ? 'aborted' : 'error'
}

function isAbort(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'name' in error && error.name === 'AbortError'
}

async function* measureListing<T>(
  verb: string,
  listing: AsyncIterable<T>,
  { clock, metrics }: MeasureOptions,
): AsyncGenerator<T> {
  const began = clock.monotonic()
  let firstAt: number | undefined
  let outcome: StorageOutcome = 'ok'
  try {
    for await (const item of listing) {
      firstAt ??= clock.monotonic()
      yield item
    }
  } catch (error) {
    outcome = outcomeOf(error)
    throw error
  } finally {
    metrics.operationEnded(verb, outcome, ((firstAt ?? clock.monotonic()) - began) / 1000)
  }
}

/** Not a generator: one that was never begun would not pass its end on, and what the stream holds stayed open. */
function countFailures(body: AsyncIterable<Buffer>, metrics: StorageMetrics): AsyncIterable<Buffer> {
  return {
    [Symbol.asyncIterator]() {
      const chunks = body[Symbol.asyncIterator]()
      return {
        async next() {
          try {
            return await chunks.next()
          } catch (error) {
            metrics.operationEnded('stream_body', outcomeOf(error))
            throw error
          }
        },
        async return() {
          await chunks.return?.()
          return { done: true, value: undefined }
        },
      }
    },
  }
}

function measureUpload(upload: Upload, options: MeasureOptions): Upload {
  const measure = measuring(options)
  const end = inFlight(options.metrics)
  return {
    write: (chunk) => countFailure('upload_body', upload.write(chunk), options.metrics),
    async complete(completion) {
      await measure('complete', () => upload.complete(completion))
      end()
    },
    abort: () => upload.abort().finally(end),
  }
}

function measureAppend(append: Append, options: MeasureOptions): Append {
  const measure = measuring(options)
  const end = inFlight(options.metrics)
  return {
    write: (chunk) => countFailure('append_body', append.write(chunk), options.metrics),
    close: () => measure('close', () => append.close()).finally(end),
  }
}

async function countFailure(verb: string, writing: Promise<void>, metrics: StorageMetrics): Promise<void> {
  try {
    await writing
  } catch (error) {
    metrics.operationEnded(verb, outcomeOf(error))
    throw error
  }
}

/** Counts one that has begun; the function that it returns counts its end, once. */
function inFlight(metrics: StorageMetrics): () => void {
  let isOpen = true
  metrics.uploadBegan()
  return () => {
    if (isOpen) metrics.uploadEnded()
    isOpen = false
  }
}
