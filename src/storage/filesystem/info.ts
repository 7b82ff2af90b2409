import { constants, type BigIntStats } from 'node:fs'
import { lstat, open, unlink, type FileHandle } from 'node:fs/promises'
import type { ObjectInfo } from '../driver.ts'
import { codeOf, unlessAbsent } from './errors.ts'

/** An object is a regular file: what is a folder, a link or a device is absent. */
export async function statFile(path: string): Promise<ObjectInfo | undefined> {
  return unlessAbsent(async () => infoOf(await lstat(path, { bigint: true })))
}

/**
 * Objects are never written in place, so that a new content is a new inode. The time makes the difference where an
 * inode's number is used again.
 */
export function infoOf(stats: BigIntStats): ObjectInfo | undefined {
  if (!stats.isFile()) return undefined
  return {
    size: Number(stats.size),
    modified: Number(stats.mtimeMs),
    version: `${stats.ino}-${stats.size}-${stats.mtimeNs}`,
  }
}

export interface OpenFile {
  readonly handle: FileHandle
  readonly object: ObjectInfo
}

/** Close the handle: what was opened stays readable whatever happens to its name. */
export async function openFile(path: string): Promise<OpenFile | undefined> {
  const handle = await unlessAbsent(() => openNonBlocking(path))
  if (!handle) return undefined
  try {
    const object = infoOf(await handle.stat({ bigint: true }))
    if (object) return { handle, object }
  } catch (error) {
    await handle.close()
    throw error
  }
  await handle.close()
  return undefined
}

/** Neither follows a link nor waits for the other end of a pipe. */
async function openNonBlocking(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    if (codeOf(error) === 'ENXIO') return undefined
    throw error
  }
}

/** Removes a file, if there is one. */
export async function unlinkIfThere(path: string): Promise<void> {
  await unlessAbsent(() => unlink(path))
}
