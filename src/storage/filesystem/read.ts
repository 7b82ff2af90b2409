import { closeSync, constants, fstatSync, lstatSync, openSync, readSync } from 'node:fs'
import type { Clock } from '../../clock.ts'
import type { ObjectInfo } from '../driver.ts'
import { isAbsence } from './errors.ts'
import { infoOf, openFile, statFile } from './info.ts'
import { lookByTurns } from './turns.ts'

/** Larger files are read through the thread pool: the event loop would stand still for too long. */
const maxSynchronousBytes = 64 * 1024

type Small = Buffer | 'larger' | undefined

/** Reads whole files. @throws Error where one is larger than `maxBytes` */
export function wholeReader(clock: Clock): (path: string, maxBytes: number) => Promise<Buffer | undefined> {
  const readSmall = lookByTurns<Small>(clock, readSmallSync, async () => 'larger')
  return async (path, maxBytes) => {
    const found = await readSmall(path)
    if (found === 'larger') return readLarge(path, maxBytes)
    if (found && found.length > maxBytes) throw tooLarge(path, maxBytes)
    // Whoever joined the same look gets bytes of its own.
    return found && Buffer.from(found)
  }
}

/** What statFile tells. */
export function fileStatter(clock: Clock): (path: string) => Promise<ObjectInfo | undefined> {
  return lookByTurns(clock, statSync, statFile)
}

function statSync(path: string): ObjectInfo | undefined {
  const stats = lstatSync(path, { bigint: true, throwIfNoEntry: false })
  return stats && infoOf(stats)
}

function readSmallSync(path: string): Small {
  try {
    const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    try {
      const stats = fstatSync(file)
      if (!stats.isFile()) return undefined
      return stats.size > maxSynchronousBytes ? 'larger' : readBytes(file, stats.size)
    } finally {
      closeSync(file)
    }
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw error
  }
}

function readBytes(file: number, size: number): Buffer {
  const bytes = Buffer.allocUnsafe(size)
  let length = 0
  while (length < size) {
    const bytesRead = readSync(file, bytes, length, size - length, length)
    if (bytesRead === 0) break
    length += bytesRead
  }
  return bytes.subarray(0, length)
}

async function readLarge(path: string, maxBytes: number): Promise<Buffer | undefined> {
  const file = await openFile(path)
  if (!file) return undefined
  await using handle = file.handle
  if (file.object.size > maxBytes) throw tooLarge(path, maxBytes)
  return await handle.readFile()
}

function tooLarge(path: string, maxBytes: number): Error {
  return new Error(`${path} is larger than ${maxBytes} bytes`)
}
