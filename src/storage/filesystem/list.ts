import { readdir } from 'node:fs/promises'
import { pMapIterable, pMapSkip } from 'p-map'
import type { Listed } from '../driver.ts'
import { unlessAbsent } from './errors.ts'
import { statFile } from './info.ts'
import { isReserved } from './paths.ts'
import { keyFault } from '../keys.ts'

/** In each folder on the way to where a listing is, this many of its entries are looked into ahead. */
const ahead = { concurrency: 8, backpressure: 16 } as const

interface Selection {
  readonly prefix: string
  readonly after: string
  readonly signal?: AbortSignal | undefined
}

/** The objects whose keys begin with the prefix and follow `after`, in byte order of whole keys. */
export async function* listObjects(root: string, selection: Selection): AsyncGenerator<Listed> {
  const { prefix } = selection
  const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1)
  if (isFolder(folder)) yield* walk(root, selection, await entriesOf(root, folder, selection))
}

/** The names directly below a folder: a folder shows where an object lies somewhere below it. */
export async function* listFolder(
  root: string,
  folder: string,
  selection: Selection,
): AsyncGenerator<string> {
  if (!isFolder(folder)) return
  const { after, signal } = selection
  const entries = await entriesOf(root, folder, { prefix: folder, after: '' })
  const names = entries.map((key) => key.slice(folder.length)).filter((name) => name > after)
  const shown = async (name: string) => {
    const isShown = !name.endsWith('/') || (await holdsObject(root, folder + name))
    return isShown ? name : pMapSkip
  }
  for await (const name of pMapIterable(names, shown, ahead)) {
    signal?.throwIfAborted()
    yield name
  }
}

/** A folder in which keys may lie: it is empty, or ends with "/". */
function isFolder(folder: string): boolean {
  if (folder === '') return true
  return folder.endsWith('/') && keyFault(folder.slice(0, -1)) === undefined && !isReserved(folder)
}

/**
 * Holds the folders on the way to where the consumer is, and those a few entries ahead; so that a bucket of any size
 * can be listed. What vanishes meanwhile is left out.
 */
async function* walk(root: string, selection: Selection, entries: readonly string[]): AsyncGenerator<Listed> {
  const lookInto = async (key: string) => {
    if (key.endsWith('/')) return { entries: await entriesOf(root, key, selection) }
    const object = await statFile(`${root}/${key}`)
    return object ? { key, object } : pMapSkip
  }
  for await (const found of pMapIterable(entries, lookInto, ahead)) {
    selection.signal?.throwIfAborted()
    if (found.entries) yield* walk(root, selection, found.entries)
    else yield found
  }
}

/**
 * The keys of what lies directly in a folder and may hold something of the selection. A folder's own ends with "/",
 * and is sorted with it: so the order is that of the keys below. What is no key is left out.
 */
async function entriesOf(root: string, folder: string, selection: Selection): Promise<string[]> {
  const found = await unlessAbsent(() => readdir(`${root}/${folder}`, { withFileTypes: true }))
  const keys: string[] = []
  for (const entry of found ?? []) {
    if (!entry.isDirectory() && !entry.isFile()) continue
    const key = folder + entry.name
    const shown = entry.isDirectory() ? `${key}/` : key
    if (mayHold(selection, shown) && keyFault(key) === undefined && !isReserved(shown)) keys.push(shown)
  }
  return keys.sort()
}

function mayHold({ prefix, after }: Selection, key: string): boolean {
  const isAhead = key > after || (key.endsWith('/') && after.startsWith(key))
  return isAhead && (key.startsWith(prefix) || (key.endsWith('/') && prefix.startsWith(key)))
}

async function holdsObject(root: string, folder: string): Promise<boolean> {
  const entries = await entriesOf(root, folder, { prefix: folder, after: '' })
  if (entries.some((key) => !key.endsWith('/'))) return true
  for (const below of entries) if (await holdsObject(root, below)) return true
  return false
}
