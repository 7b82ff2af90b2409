import { randomUUID } from 'node:crypto'
import { lstat, rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Clock } from '../../clock.ts'
import type { CallOptions, RemoveLease } from '../driver.ts'
import { isAbsence, unlessAbsent } from './errors.ts'
import type { Folders } from './folders.ts'
import type { Paths } from './paths.ts'
import { refuseLate } from './place.ts'
import { inParallel } from '../parallel.ts'

interface Removal {
  readonly paths: Paths
  readonly folders: Folders
  readonly clock: Clock
}

const concurrency = 8

/**
 * Removes files and the folders that they leave empty. A key that is not there counts as removed too, and so must
 * not come back after a crash: its folder is synced like the others.
 * @throws LeaseExpired once every removal that had begun has ended
 */
export async function removeFiles(
  { paths, folders, clock }: Removal,
  keys: readonly string[],
  { lease, signal }: CallOptions & { readonly lease?: RemoveLease },
): Promise<void> {
  const changed = new Set<string>()
  await inParallel(keys, concurrency, async (key) => {
    signal?.throwIfAborted()
    const path = paths.ofReadable(key)
    if (path === undefined) return
    refuseLate(clock, key, lease)
    await unlinkFile(path)
    changed.add(await folders.removeEmpty(dirname(path)))
  })
  await inParallel(changed, concurrency, (folder) => folders.syncNames(folder))
}

async function unlinkFile(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (isAbsence(error)) return
    // No object has the key of a folder.
    const isFolder = (await unlessAbsent(() => lstat(path)))?.isDirectory() === true
    if (!isFolder) throw error
  }
}

/** A removal of the round is a rename into its folder: from now on it finds none. */
export async function revokeRound(paths: Paths, round: string): Promise<void> {
  const folder = paths.ofRound(round)
  try {
    await rename(folder, `${dirname(folder)}/closed-${round}-${randomUUID()}`)
  } catch (error) {
    if (!isAbsence(error)) throw error
  }
}
