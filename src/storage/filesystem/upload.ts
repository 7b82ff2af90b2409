import { link, rename } from 'node:fs/promises'
import { segmentKey, type Append, type Listed, type Upload } from '../driver.ts'
import { unlinkIfThere } from './info.ts'
import type { Placement } from './place.ts'
import { createSink } from './sink.ts'

/**
 * An upload grows in a file of its own, and keeps it until it has its key: a completion that comes too late for its
 * lease can be repeated with a newer one.
 */
export async function startUpload(placement: Placement, key: string, signal?: AbortSignal): Promise<Upload> {
  const path = await placement.temporaryPath()
  const sink = await createSink(path)
  let isFinished = false
  let isOver = false
  const end = async () => {
    isOver = true
    await sink.close()
    await unlinkIfThere(path)
  }
  return {
    async write(chunk) {
      signal?.throwIfAborted()
      await sink.write(chunk)
    },
    async complete({ lease } = {}) {
      if (isOver) throw new Error(`the upload to ${key} has ended`)
      if (!isFinished) await sink.finish()
      isFinished = true
      await placement.place(key, { lease, signal }, (to) => link(path, to))
      await end()
    },
    async abort() {
      if (!isOver) await end()
    },
  }
}

/** One append is one segment. */
export async function startAppend(placement: Placement, prefix: string, offset: number): Promise<Append> {
  const key = segmentKey(prefix, offset)
  const path = await placement.temporaryPath()
  const sink = await createSink(path)
  return {
    write: (chunk) => sink.write(chunk),
    async close(): Promise<readonly Listed[]> {
      try {
        if (sink.size === 0) return []
        const object = await sink.finish()
        await placement.place(key, { ifAbsent: true }, (to) => rename(path, to))
        return [{ key, object }]
      } finally {
        await sink.close()
        await unlinkIfThere(path)
      }
    },
  }
}
