/**
 * How a file comes to its key. It is written under another name, made durable, and then given its key by rename(2),
 * or by link(2) where it must not exist yet. A leased write comes from the folder of its generation, which no writer
 * ever makes: a collection renames that folder away, and so ends every write that slept in it.
 */
import { randomUUID } from 'node:crypto'
import { link, lstat, mkdir, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Clock } from '../../clock.ts'
import { LeaseExpired, PreconditionFailed, type RemoveLease, type WriteLease } from '../driver.ts'
import { codeOf, isAbsence, unlessAbsent } from './errors.ts'
import { unlinkIfThere } from './info.ts'
import type { Folders } from './folders.ts'
import type { Paths } from './paths.ts'

export interface PlaceOptions {
  readonly ifAbsent?: boolean | undefined
  readonly lease?: WriteLease | undefined
  readonly signal?: AbortSignal | undefined
}

export interface Placement {
  /**
   * Runs `create` with the path of a file that does not exist yet, in the folder that the lease asks for, then gives
   * that file its key. Nothing is left of it where anything fails.
   * @throws LeaseExpired, PreconditionFailed
   */
  place(key: string, options: PlaceOptions, create: (path: string) => Promise<unknown>): Promise<void>
  /** A name for a file without a lease. */
  temporaryPath(): Promise<string>
}

/** Others may empty and remove a folder each time it was made; this often in a row they do not. */
const maxAttempts = 100

/** Something has the name already: an object, or a folder. */
const occupied = new Set(['EEXIST', 'EISDIR', 'ENOTEMPTY'])

export function placementOf(paths: Paths, folders: Folders, clock: Clock): Placement {
  const temporaryPath = async () => {
    await mkdir(paths.temporary).catch((error: unknown) => {
      if (codeOf(error) !== 'EEXIST') throw error
    })
    return `${paths.temporary}/${randomUUID()}`
  }

  const place: Placement['place'] = async (key, options, create) => {
    const { lease } = options
    const to = paths.ofWritable(key)
    refuseLate(clock, key, lease)
    const from = lease ? `${paths.ofGeneration(lease.generation)}/${randomUUID()}` : await temporaryPath()
    try {
      await create(from)
      await giveName(from, to, key, options)
    } catch (error) {
      // A folder that was renamed away takes its files with it.
      if (lease && isAbsence(error) && !(await isThere(dirname(from))))
        throw new LeaseExpired(key, { cause: error })
      if (codeOf(error) === 'ENOTDIR') {
        throw new Error(`${key} cannot be stored: a part of its path is an object`, { cause: error })
      }
      throw error
    } finally {
      // Also after success: a link has two names, and rename(2) does nothing where both are names of one file.
      await unlinkIfThere(from)
    }
    await folders.sync(dirname(to))
  }

  const giveName = async (from: string, to: string, key: string, options: PlaceOptions) => {
    for (let attempt = 1; ; attempt++) {
      options.signal?.throwIfAborted()
      refuseLate(clock, key, options.lease)
      try {
        await (options.ifAbsent ? link(from, to) : rename(from, to))
        return
      } catch (error) {
        await clearTheWay(error, attempt, from, to, key)
      }
    }
  }

  /** Returns where another attempt may go better. */
  const clearTheWay = async (error: unknown, attempt: number, from: string, to: string, key: string) => {
    const code = codeOf(error) ?? ''
    if (attempt >= maxAttempts) throw error
    if (occupied.has(code)) {
      if (!(await isFolder(to))) throw await existing(error, to, key)
      const isEmpty = (await folders.removeEmpty(to)) !== to
      if (!isEmpty) throw new Error(`${key} cannot be stored: objects lie below it`, { cause: error })
    } else if (code === 'ENOENT' && (await isThere(from))) {
      await folders.make(dirname(to)).catch((failure: unknown) => {
        if (codeOf(failure) !== 'ENOENT') throw failure
      })
    } else {
      throw error
    }
  }

  const existing = async (error: unknown, to: string, key: string) => {
    // Who is told that it exists may rely on that.
    await folders.sync(dirname(to))
    return new PreconditionFailed(key, { cause: error })
  }

  return { place, temporaryPath }
}

/** @throws LeaseExpired */
export function refuseLate(clock: Clock, key: string, lease: WriteLease | RemoveLease | undefined): void {
  if (lease && clock.now() > lease.date + lease.durationMs) throw new LeaseExpired(key)
}

async function isThere(path: string): Promise<boolean> {
  return (await unlessAbsent(() => lstat(path))) !== undefined
}

async function isFolder(path: string): Promise<boolean> {
  return (await unlessAbsent(() => lstat(path)))?.isDirectory() === true
}
