import { resolve } from 'node:path'
import { systemClock, type Clock } from '../clock.ts'
import { segmentKey, type Append, type Driver, type ObjectStream, type Upload } from './driver.ts'
import { composeFile } from './filesystem/compose.ts'
import { explaining, explainingEach } from './filesystem/errors.ts'
import { foldersOf } from './filesystem/folders.ts'
import { openFile } from './filesystem/info.ts'
import { listFolder, listObjects } from './filesystem/list.ts'
import { pathsBelow } from './filesystem/paths.ts'
import { placementOf } from './filesystem/place.ts'
import { fileStatter, wholeReader } from './filesystem/read.ts'
import { removeFiles, revokeRound } from './filesystem/remove.ts'
import { writeFileWith } from './filesystem/sink.ts'
import { findRoot, prepareRoot, removeStale } from './filesystem/start.ts'
import { readAhead } from './filesystem/stream.ts'
import { startAppend, startUpload } from './filesystem/upload.ts'

export interface FilesystemOptions {
  /** The folder that holds everything; made where it does not exist. */
  readonly root: string
  /** That of the machine which keeps the files. */
  readonly clock?: Clock
  /** Whether nothing is made there, so that it may be mounted read-only; it has to exist. Default false. */
  readonly isReadOnly?: boolean
}

const defaultMaxBytes = 16 * 1024 * 1024

/**
 * Objects as files of one machine: a key is a path below `root` (filesystem/paths.ts). Any number of processes of
 * that machine may use one root at once. An answer is given when file and folders are on the disk (fsync).
 * @throws Error where the root cannot be used, saying why
 */
export async function filesystemDriver(options: FilesystemOptions): Promise<Driver> {
  const clock = options.clock ?? systemClock
  const paths = pathsBelow(resolve(options.root))
  const { root } = paths
  const folders = foldersOf(paths)
  const placement = placementOf(paths, folders, clock)
  const readWhole = wholeReader(clock)
  const statPath = fileStatter(clock)
  const explain = explaining(root)
  if (options.isReadOnly) await findRoot(paths)
  else await prepareRoot(paths, folders, clock)

  return {
    stat: explain(async (key) => {
      const path = paths.ofReadable(key)
      const object = path === undefined ? undefined : await statPath(path)
      return { date: clock.now(), ...(object && { object }) }
    }),

    read: explain(async (key, { maxBytes = defaultMaxBytes, signal } = {}) => {
      signal?.throwIfAborted()
      const path = paths.ofReadable(key)
      return path === undefined ? undefined : readWhole(path, maxBytes)
    }),

    stream: explain(async (key, { range, signal } = {}): Promise<ObjectStream | undefined> => {
      const path = paths.ofReadable(key)
      const file = path === undefined ? undefined : await openFile(path)
      if (!file) return undefined
      const body = readAhead(file.handle, range ?? { start: 0, end: file.object.size - 1 }, signal)
      return { object: file.object, body }
    }),

    write: explain(async (key, bytes, options) => {
      const chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      await placement.place(key, options ?? {}, (path) => writeFileWith(path, (sink) => sink.write(chunk)))
    }),

    upload: explain(async (key, { signal }): Promise<Upload> => {
      paths.ofWritable(key)
      const upload = await startUpload(placement, key, signal)
      return {
        write: explain((chunk) => upload.write(chunk)),
        complete: explain((completion) => upload.complete(completion)),
        abort: explain(() => upload.abort()),
      }
    }),

    append: explain(async (prefix, offset): Promise<Append> => {
      paths.ofWritable(segmentKey(prefix, offset))
      const append = await startAppend(placement, prefix, offset)
      return { write: explain((chunk) => append.write(chunk)), close: explain(() => append.close()) }
    }),

    compose: explain(async (sources, key, options) => {
      const create = (path: string) => composeFile(paths, clock, sources, path, options?.signal)
      await placement.place(key, options ?? {}, create)
    }),

    list: (prefix, { after = '', signal } = {}) =>
      explainingEach(root, listObjects(root, { prefix, after, signal })),

    listNames: (folder, { after = '', signal } = {}) =>
      explainingEach(root, listFolder(root, folder, { prefix: folder, after, signal })),

    remove: explain((keys, options) => removeFiles({ paths, folders, clock }, keys, options ?? {})),

    async abortUpload() {
      // Nothing was ever recorded: what a process leaves behind is a temporary file, and swept as such.
    },

    sweepTemporary: explain((olderThanMs) => removeStale(paths, clock, olderThanMs)),

    revokeRemovals: explain((round) => revokeRound(paths, round)),
  }
}
