import type { Append, Driver, Upload } from '../../src/storage/driver.ts'

/** One request to the storage, as the registry makes it. */
export interface Operation {
  readonly verb: string
  /** The key, or the prefix; of several keys the first. */
  readonly key: string
}

/** Called in place of each operation; `run` carries it out. */
export type Tap = <T>(operation: Operation, run: () => Promise<T>) => Promise<T>

/** A driver whose every operation passes through `tap`. A listing is one operation: it is read whole within it. */
export function tapDriver(driver: Driver, tap: Tap): Driver {
  const { revokeRemovals, presign, sweepTemporary } = driver
  return {
    ...driver,
    stat: (key, options) => tap({ verb: 'stat', key }, () => driver.stat(key, options)),
    read: (key, options) => tap({ verb: 'read', key }, () => driver.read(key, options)),
    stream: (key, options) => tap({ verb: 'stream', key }, () => driver.stream(key, options)),
    write: (key, bytes, options) => tap({ verb: 'write', key }, () => driver.write(key, bytes, options)),
    async upload(key, options) {
      const upload = await tap({ verb: 'upload', key }, () => driver.upload(key, options))
      return tapUpload(upload, key, tap)
    },
    async append(prefix, offset, options) {
      const append = await tap({ verb: 'append', key: prefix }, () => driver.append(prefix, offset, options))
      return tapAppend(append, prefix, tap)
    },
    compose: (sources, key, options) =>
      tap({ verb: 'compose', key }, () => driver.compose(sources, key, options)),
    async *list(prefix, options) {
      yield* await tap({ verb: 'list', key: prefix }, () => Array.fromAsync(driver.list(prefix, options)))
    },
    async *listNames(folder, options) {
      yield* await tap({ verb: 'list names', key: folder }, () =>
        Array.fromAsync(driver.listNames(folder, options)),
      )
    },
    remove: (keys, options) =>
      tap({ verb: 'remove', key: keys[0] ?? '' }, () => driver.remove(keys, options)),
    abortUpload: (upload, options) =>
      tap({ verb: 'abort upload', key: upload.key }, () => driver.abortUpload(upload, options)),
    ...(revokeRemovals && {
      revokeRemovals: (round: string) =>
        tap({ verb: 'revoke', key: round }, () => revokeRemovals.call(driver, round)),
    }),
    ...(presign && {
      presign: (key: string, method: 'GET' | 'HEAD', seconds: number) =>
        tap({ verb: 'presign', key }, () => presign.call(driver, key, method, seconds)),
    }),
    ...(sweepTemporary && {
      sweepTemporary: (olderThanMs: number) =>
        tap({ verb: 'sweep temporary', key: '' }, () => sweepTemporary.call(driver, olderThanMs)),
    }),
  }
}

function tapUpload(upload: Upload, key: string, tap: Tap): Upload {
  return {
    write: (chunk) => upload.write(chunk),
    complete: (options) => tap({ verb: 'complete', key }, () => upload.complete(options)),
    abort: () => upload.abort(),
  }
}

function tapAppend(append: Append, key: string, tap: Tap): Append {
  return {
    write: (chunk) => append.write(chunk),
    close: () => tap({ verb: 'close', key }, () => append.close()),
  }
}
