import { mkdir, open, rmdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { LRUCache } from 'lru-cache'
import { codeOf, isAbsence } from './errors.ts'
import type { Paths } from './paths.ts'

/** Folders come with the first object below them and go with the last; other processes do the same meanwhile. */
export interface Folders {
  /** Makes a folder and those above it. It may be gone again when this returns; ENOENT where that came early. */
  make(path: string): Promise<void>
  /**
   * Makes the names in a folder durable, and the folder's own name, up to one that is known to be durable: whoever
   * made a folder may be another process that has not come to its own sync yet.
   */
  sync(path: string): Promise<void>
  /** Makes the names in a folder durable, the folder itself being so. */
  syncNames(path: string): Promise<void>
  /** Removes a folder that is empty, then those above it. Returns the first that stays. */
  removeEmpty(path: string): Promise<string>
}

const maxKnown = 20_000

export function foldersOf(paths: Paths): Folders {
  // By inode and time of birth: a folder that was removed and made again is another one.
  const durable = new LRUCache<string, true>({ max: maxKnown })

  const sync = async (path: string): Promise<void> => {
    const identity = await syncFolder(path)
    if (identity !== undefined && durable.has(identity)) return
    if (path !== paths.root) await sync(dirname(path))
    if (identity !== undefined) durable.set(identity, true)
  }

  return {
    make: makeFolder,
    sync,
    async syncNames(path) {
      for (let at = path; (await syncFolder(at)) === undefined && at !== paths.root; at = dirname(at));
    },
    async removeEmpty(path) {
      let at = path
      while (!paths.kept.has(at) && (await isGoneAfterRmdir(at))) at = dirname(at)
      return at
    },
  }
}

/** Not mkdir with `recursive`, which tries for ever where a file system answers ENOENT for good. */
async function makeFolder(path: string): Promise<void> {
  if ((await madeFolder(path)) || path === dirname(path)) return
  await makeFolder(dirname(path))
  await mkdir(path).catch((error: unknown) => {
    if (codeOf(error) !== 'EEXIST') throw error
  })
}

/** False where the folder above it does not exist. */
async function madeFolder(path: string): Promise<boolean> {
  try {
    await mkdir(path)
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false
    if (codeOf(error) !== 'EEXIST') throw error
  }
  return true
}

/** The folder's identity; undefined where it is gone, and with it what was to be made durable. */
async function syncFolder(path: string): Promise<string | undefined> {
  try {
    await using handle = await open(path, 'r')
    await handle.sync()
    const { ino, birthtimeNs } = await handle.stat({ bigint: true })
    return `${ino}-${birthtimeNs}`
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw error
  }
}

/** Why rmdir refuses: it holds something, is in use, or is not ours. */
const stays = new Set(['ENOTEMPTY', 'EEXIST', 'EBUSY', 'EACCES', 'EPERM'])

async function isGoneAfterRmdir(path: string): Promise<boolean> {
  try {
    await rmdir(path)
    return true
  } catch (error) {
    if (isAbsence(error)) return true
    if (stays.has(codeOf(error) ?? '')) return false
    throw error
  }
}
