/** A folder as a layer of an image: the same bytes for the same files, whoever packs them, and whenever. */
import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { lstat, readdir, readlink, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { pack, type Pack } from 'tar-stream'

type HeaderOptions = Parameters<Pack['entry']>[0]

export interface LayerOptions {
  readonly folder: string
  /** What its files are below, in the image: without a slash at its ends, '' for the root. */
  readonly below: string
  readonly uid: number
  readonly gid: number
  readonly mtime: Date
}

export interface Layer {
  readonly digest: string
  readonly size: number
  /** The digest of the tar before it was compressed. */
  readonly diffId: string
}

/** Writes the layer, a tar in gzip, to `blobs` under its digest. */
export async function writeLayer(options: LayerOptions, blobs: string, name: string): Promise<Layer> {
  const tar = pack()
  const unfinished = join(blobs, `${name}.unfinished`)
  const raw = measure()
  const compressed = measure()
  const packed = addFiles(tar, options)
  // Times and names are not in the header that Node's zlib writes.
  await Promise.all([
    packed,
    pipeline(tar, raw.stream, createGzip({ level: 6 }), compressed.stream, createWriteStream(unfinished)),
  ])
  const { digest, size } = compressed.result()
  await rename(unfinished, join(blobs, digest.replace('sha256:', '')))
  return { digest, size, diffId: raw.result().digest }
}

async function addFiles(tar: Pack, { folder, below, uid, gid, mtime }: LayerOptions): Promise<void> {
  const own = { uid, gid, mtime }
  if (below !== '') await addEntry(tar, { ...own, name: `${below}/`, type: 'directory', mode: 0o755 })
  for (const path of await listFiles(folder)) {
    const name = below === '' ? path : `${below}/${path}`
    const onDisk = join(folder, path)
    const status = await lstat(onDisk)
    if (status.isDirectory()) {
      await addEntry(tar, { ...own, name: `${name}/`, type: 'directory', mode: 0o755 })
    } else if (status.isSymbolicLink()) {
      const linkname = await readlink(onDisk)
      await addEntry(tar, { ...own, name, type: 'symlink', linkname, mode: 0o777 })
    } else {
      await addFile(tar, onDisk, { ...own, name, size: status.size, mode: status.mode & 0o777 })
    }
  }
  tar.finalize()
}

/**
 * All that is in a folder, by name, each folder with all that is in it behind it: tar gives a folder its time when it
 * comes to something else. (Node's own recursion goes through symbolic links to folders.)
 */
async function listFiles(folder: string, below = ''): Promise<string[]> {
  const paths: string[] = []
  const entries = await readdir(join(folder, below), { withFileTypes: true })
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = below === '' ? entry.name : `${below}/${entry.name}`
    paths.push(path)
    if (entry.isDirectory()) paths.push(...(await listFiles(folder, path)))
  }
  return paths
}

async function addEntry(tar: Pack, header: HeaderOptions): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    tar.entry(header, (error) => {
      if (error) reject(error)
      else resolve()
    })
  })
}

export async function addFile(tar: Pack, path: string, header: HeaderOptions): Promise<void> {
  await pipeline(createReadStream(path, { highWaterMark: 2 ** 20 }), tar.entry(header))
}

/** Passes bytes on, and knows how many they were and what their digest is. */
function measure() {
  const hash = createHash('sha256')
  let size = 0
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk)
      size += chunk.length
      done(null, chunk)
    },
  })
  return { stream, result: () => ({ digest: `sha256:${hash.digest('hex')}`, size }) }
}
