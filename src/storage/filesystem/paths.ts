/**
 * Where a key lies, and what else lies below the root. A key is a path; these folders are no keys and never listed:
 *
 *   stowage/tmp/                   files on their way to their key: un-leased writes, uploads, appends
 *   stowage/gc/tmp/<generation>/   the same for leased writes; made by a collection, never by a writer
 *   stowage/gc/trash/<round>/      where a collection's removals go
 *   lost+found/                    ext4's own
 */
import { checkKey, keyFault } from '../keys.ts'

const temporary = 'stowage/tmp'
const collectionFolder = 'stowage/gc'
const reserved = [temporary, 'stowage/gc/tmp', 'stowage/gc/trash', 'lost+found'].map((folder) => `${folder}/`)

const maxElementBytes = 255

export interface Paths {
  readonly root: string
  readonly temporary: string
  readonly collection: string
  /** Folders that are never removed, however empty. */
  readonly kept: ReadonlySet<string>
  /** The path of a key that is to be written. @throws Error where it is no key, or the driver's own */
  ofWritable(key: string): string
  /** The path of a key that is to be looked for; undefined where nothing can be. */
  ofReadable(key: string): string | undefined
  /** Where a leased write of a generation comes into being. */
  ofGeneration(generation: number): string
  ofRound(round: string): string
}

export function pathsBelow(root: string): Paths {
  const at = (path: string) => `${root}/${path}`
  return {
    root,
    temporary: at(temporary),
    collection: at(collectionFolder),
    kept: new Set([root, at('stowage'), at(collectionFolder)]),
    ofWritable(key) {
      checkKey(key)
      if (isReserved(key)) throw new Error(`not a storage key: ${key} is kept for the driver's own files`)
      if (hasLongElement(key))
        throw new Error(`not a storage key here: a file's name has at most 255 bytes: ${key}`)
      return at(key)
    },
    ofReadable: (key) =>
      keyFault(key) === undefined && !isReserved(key) && !hasLongElement(key) ? at(key) : undefined,
    ofGeneration: (generation) => at(`stowage/gc/tmp/${String(generation).padStart(10, '0')}`),
    ofRound(round) {
      checkKey(round)
      if (round.includes('/')) throw new Error(`not the name of a round: ${round}`)
      return at(`stowage/gc/trash/${round}`)
    },
  }
}

/** Whether a key, or a folder that ends with "/", is one of the driver's own. */
export function isReserved(key: string): boolean {
  return reserved.some((folder) => key.startsWith(folder) || `${key}/` === folder)
}

function hasLongElement(key: string): boolean {
  return key.length > maxElementBytes && key.split('/').some((element) => element.length > maxElementBytes)
}
