import { randomUUID } from 'node:crypto'
import { link, lstat, mkdir, open, opendir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isNativeError } from 'node:util/types'
import type { Clock } from '../../clock.ts'
import { codeOf, unlessAbsent } from './errors.ts'
import type { Folders } from './folders.ts'
import type { Paths } from './paths.ts'

const dayMs = 24 * 60 * 60 * 1000

/** @throws Error where the folder cannot be made, or cannot hold what the driver needs, saying what is missing */
export async function prepareRoot(paths: Paths, folders: Folders, clock: Clock): Promise<void> {
  try {
    await folders.make(paths.temporary)
    await folders.sync(paths.temporary)
    await probe(paths)
    await makeCollectionFolder(paths, folders)
    await removeStale(paths, clock, dayMs)
  } catch (error) {
    const reason = isNativeError(error) ? error.message : String(error)
    throw new Error(`the folder ${paths.root} cannot be used for storage: ${reason}`, { cause: error })
  }
}

/** @throws Error where there is none, or it may not be read */
export async function findRoot({ root }: Paths): Promise<void> {
  await (await opendir(root)).close()
}

/** Removes files of writers that died: nothing writes to one for that long. */
export async function removeStale(paths: Paths, clock: Clock, olderThanMs: number): Promise<void> {
  const generations = (await namesIn(`${paths.collection}/tmp`)).map((name) =>
    join(paths.collection, 'tmp', name),
  )
  // Leases are over after minutes; a day is beyond every doubt.
  for (const folder of generations) await removeOlder(folder, clock.now() - Math.max(olderThanMs, dayMs))
  await removeOlder(paths.temporary, clock.now() - olderThanMs)
}

async function removeOlder(folder: string, beforeMs: number): Promise<void> {
  for (const name of await namesIn(folder)) {
    const path = join(folder, name)
    const stats = await unlessAbsent(() => lstat(path))
    if (stats && stats.mtimeMs < beforeMs) await rm(path, { recursive: true, force: true })
  }
}

async function namesIn(folder: string): Promise<string[]> {
  return (await unlessAbsent(() => readdir(folder))) ?? []
}

/** Creating only if absent is link(2) here, which not every file system has. */
async function probe(paths: Paths): Promise<void> {
  const path = join(paths.temporary, randomUUID())
  await writeFile(path, 'probe')
  try {
    await link(path, `${path}-link`)
  } catch (error) {
    throw new Error('its file system has no hard links', { cause: error })
  } finally {
    await rm(path, { force: true })
    await rm(`${path}-link`, { force: true })
  }
}

/**
 * The folder for leased writes of generation 0 comes into being once in the life of a storage: made again later it
 * would let a writer in that slept since. So it comes with `stowage/gc` itself, in one rename, which fails where
 * another process was first.
 */
async function makeCollectionFolder(paths: Paths, folders: Folders): Promise<void> {
  if (await unlessAbsent(() => lstat(paths.collection))) return folders.sync(paths.collection)
  const built = join(paths.temporary, randomUUID())
  await mkdir(join(built, 'tmp', '0000000000'), { recursive: true })
  for (const path of [join(built, 'tmp'), built]) await syncFolder(path)
  try {
    await rename(built, paths.collection)
  } catch (error) {
    if (codeOf(error) !== 'ENOTEMPTY' && codeOf(error) !== 'EEXIST') throw error
    await rm(built, { recursive: true, force: true })
  }
  await folders.sync(paths.collection)
}

async function syncFolder(path: string): Promise<void> {
  await using handle = await open(path, 'r')
  await handle.sync()
}
