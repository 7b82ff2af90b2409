/** All that is in a folder, as values that can be compared and searched. */
import { createHash } from 'node:crypto'
import { lstat, readdir, readFile, readlink } from 'node:fs/promises'
import { join } from 'node:path'

export interface FileEntry {
  /** From the folder, without a slash at its beginning. */
  readonly path: string
  readonly kind: 'folder' | 'link' | 'file' | 'other'
  /** Permissions, in octal. */
  readonly mode: string
  /** uid:gid */
  readonly owner: string
  /** Of a file its SHA-256, of a link where it points. */
  readonly content: string
}

export async function readTree(folder: string, below = ''): Promise<FileEntry[]> {
  const entries: FileEntry[] = []
  for (const name of (await readdir(join(folder, below))).toSorted()) {
    const path = join(below, name)
    const entry = await readEntry(folder, path)
    entries.push(entry)
    if (entry.kind === 'folder') entries.push(...(await readTree(folder, path)))
  }
  return entries
}

async function readEntry(folder: string, path: string): Promise<FileEntry> {
  const onDisk = join(folder, path)
  const status = await lstat(onDisk)
  const common = {
    path,
    mode: (status.mode & 0o7777).toString(8),
    owner: `${status.uid}:${status.gid}`,
    content: '',
  }
  if (status.isSymbolicLink()) return { ...common, kind: 'link', content: await readlink(onDisk) }
  if (status.isDirectory()) return { ...common, kind: 'folder' }
  if (!status.isFile()) return { ...common, kind: 'other' }
  const content = createHash('sha256')
    .update(await readFile(onDisk))
    .digest('hex')
  return { ...common, kind: 'file', content }
}
