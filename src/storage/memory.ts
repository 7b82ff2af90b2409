import { systemClock, type Clock } from '../clock.ts'
import {
  LeaseExpired,
  PreconditionFailed,
  segmentKey,
  type Append,
  type Driver,
  type Listed,
  type ObjectInfo,
  type RemoveLease,
  type Upload,
  type WriteLease,
} from './driver.ts'
import { checkKey } from './keys.ts'

interface Stored {
  readonly bytes: Buffer
  readonly object: ObjectInfo
}

export interface MemoryOptions {
  /** The storage's own clock. */
  readonly clock?: Clock
}

const defaultMaxBytes = 16 * 1024 * 1024

/** Everything in this process's memory, gone when it ends: for trying things out, and for tests. */
export function memoryDriver(options: MemoryOptions = {}): Driver {
  const clock = options.clock ?? systemClock
  const objects = new Map<string, Stored>()
  let versions = 0

  const put = (key: string, bytes: Buffer) => {
    const object = { size: bytes.length, modified: clock.now(), version: String(++versions) }
    objects.set(key, { bytes, object })
    return { key, object }
  }
  const isOver = (lease: WriteLease | RemoveLease | undefined) =>
    lease !== undefined && clock.now() > lease.date + lease.durationMs
  const sortedKeys = (prefix: string) =>
    [...objects.keys()].filter((key) => key.startsWith(prefix)).toSorted()

  return {
    async stat(key) {
      const stored = objects.get(key)
      return { date: clock.now(), ...(stored && { object: stored.object }) }
    },

    async read(key, { maxBytes = defaultMaxBytes, signal } = {}) {
      signal?.throwIfAborted()
      const stored = objects.get(key)
      if (stored && stored.bytes.length > maxBytes) throw new Error(`${key} is larger than ${maxBytes} bytes`)
      return stored && Buffer.from(stored.bytes)
    },

    async stream(key, { range, signal } = {}) {
      const stored = objects.get(key)
      if (!stored) return undefined
      const bytes = range ? stored.bytes.subarray(range.start, range.end + 1) : stored.bytes
      return { object: stored.object, body: chunksOf(bytes, signal) }
    },

    async write(key, bytes, { ifAbsent, lease, signal } = {}) {
      checkKey(key)
      signal?.throwIfAborted()
      if (isOver(lease)) throw new LeaseExpired(key)
      if (ifAbsent && objects.has(key)) throw new PreconditionFailed(key)
      put(key, Buffer.from(bytes))
    },

    async upload(key) {
      checkKey(key)
      const chunks: Buffer[] = []
      let isOpen = true
      const upload: Upload = {
        async write(chunk) {
          chunks.push(Buffer.from(chunk))
        },
        async complete({ lease } = {}) {
          if (!isOpen) throw new Error('the upload has ended')
          if (isOver(lease)) throw new LeaseExpired(key)
          isOpen = false
          put(key, Buffer.concat(chunks))
        },
        async abort() {
          isOpen = false
          chunks.length = 0
        },
      }
      return upload
    },

    async append(prefix, offset) {
      const key = segmentKey(prefix, offset)
      checkKey(key)
      const chunks: Buffer[] = []
      const append: Append = {
        async write(chunk) {
          if (chunk.length > 0) chunks.push(Buffer.from(chunk))
        },
        async close() {
          if (chunks.length === 0) return []
          if (objects.has(key)) throw new PreconditionFailed(key)
          return [put(key, Buffer.concat(chunks))]
        },
      }
      return append
    },

    async compose(sources, key, { lease } = {}) {
      checkKey(key)
      if (isOver(lease)) throw new LeaseExpired(key)
      const parts = sources.map((source) => {
        const stored = objects.get(source.key)
        if (stored?.object.version !== source.object.version) throw new PreconditionFailed(source.key)
        return stored.bytes
      })
      put(key, Buffer.concat(parts))
    },

    async *list(prefix, { after = '' } = {}) {
      for (const key of sortedKeys(prefix)) {
        const stored = objects.get(key)
        if (stored && key > after) yield { key, object: stored.object } satisfies Listed
      }
    },

    async *listNames(folder, { after = '' } = {}) {
      const names = sortedKeys(folder).map((key) => {
        const rest = key.slice(folder.length)
        const slash = rest.indexOf('/')
        return slash < 0 ? rest : rest.slice(0, slash + 1)
      })
      for (const name of [...new Set(names)].toSorted()) if (name > after) yield name
    },

    async remove(keys, { lease } = {}) {
      if (keys.length > 0 && isOver(lease)) throw new LeaseExpired(keys.join(', '))
      for (const key of keys) objects.delete(key)
    },

    async abortUpload() {
      // An upload lives in the process that made it, and ends with it.
    },
  }
}

async function* chunksOf(bytes: Buffer, signal: AbortSignal | undefined) {
  const size = 256 * 1024
  for (let at = 0; at < bytes.length; at += size) {
    signal?.throwIfAborted()
    yield bytes.subarray(at, at + size)
  }
}
