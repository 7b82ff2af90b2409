/** An OCI image layout (image-spec, image-layout.md), made in a folder and packed into one archive. */
import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { readdir, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { pack } from 'tar-stream'
import { mediaTypes } from '../../src/oci/media-types.ts'
import type { ImagePlan } from './dockerfile.ts'
import type { Architecture } from './file-list.ts'
import { addFile, writeLayer, type Layer } from './layer.ts'

export interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
  readonly artifactType?: string
  readonly platform?: { readonly architecture: string; readonly os: string }
  readonly annotations?: Readonly<Record<string, string>>
}

const types = {
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
} as const

export const billMediaType = 'application/vnd.cyclonedx+json'

export interface ImageOptions {
  readonly plan: ImagePlan
  readonly architecture: Architecture
  /** The build context: what the plan copies from. */
  readonly context: string
  readonly created: Date
}

export const blobsFolder = (layout: string) => join(layout, 'blobs/sha256')

/** Packs layers, and writes an image's configuration and manifest. */
export async function addImage(layout: string, options: ImageOptions): Promise<Descriptor> {
  const { plan, architecture, context, created } = options
  const layers: Layer[] = []
  for (const [index, { from, to, uid, gid }] of plan.copies.entries()) {
    const files = { folder: join(context, from), below: to, uid, gid, mtime: created }
    layers.push(await writeLayer(files, blobsFolder(layout), `${architecture}-${index}`))
  }
  const platform = { architecture, os: 'linux' }
  const config = await addJson(layout, types.config, {
    created: created.toISOString(),
    ...platform,
    config: plan.settings,
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
    history: plan.copies.map(({ instruction }) => ({
      created: created.toISOString(),
      created_by: instruction,
    })),
  })
  const manifest = await addJson(layout, mediaTypes.imageManifest, {
    schemaVersion: 2,
    mediaType: mediaTypes.imageManifest,
    config,
    layers: layers.map(({ digest, size }) => ({ mediaType: types.layer, digest, size })),
    annotations: plan.settings.Labels,
  })
  return { ...manifest, platform }
}

/**
 * Writes a bill of materials as an artifact that is about `subject`. It is in the index that the images are in, as
 * something for no platform: so it goes wherever the index goes, and no client takes it for an image to run.
 */
export async function addBill(layout: string, bill: string, subject: Descriptor): Promise<Descriptor> {
  const { mediaType, digest, size } = subject
  const blob = await addBlob(layout, billMediaType, Buffer.from(bill))
  // image-spec, "Guidance for an Empty Descriptor"
  const config = await addJson(layout, 'application/vnd.oci.empty.v1+json', {})
  const manifest = await addJson(layout, mediaTypes.imageManifest, {
    schemaVersion: 2,
    mediaType: mediaTypes.imageManifest,
    artifactType: billMediaType,
    config,
    layers: [blob],
    subject: { mediaType, digest, size },
  })
  return { ...manifest, artifactType: billMediaType, platform: { architecture: 'unknown', os: 'unknown' } }
}

/** Writes the index of all `entries`, and what names it as the one thing in this layout. */
export async function addIndex(
  layout: string,
  entries: readonly Descriptor[],
  annotations: Readonly<Record<string, string>>,
  name: string,
): Promise<Descriptor> {
  const index = { schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests: entries, annotations }
  const descriptor = await addJson(layout, mediaTypes.imageIndex, index)
  const names = {
    'io.containerd.image.name': name,
    'org.opencontainers.image.ref.name': name.replace(/^.*:/, ''),
  }
  const named = { ...descriptor, annotations: names }
  await writeFile(
    join(layout, 'index.json'),
    JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests: [named] }),
  )
  await writeFile(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  return descriptor
}

async function addJson(layout: string, mediaType: string, value: object): Promise<Descriptor> {
  return addBlob(layout, mediaType, Buffer.from(JSON.stringify(value)))
}

async function addBlob(layout: string, mediaType: string, bytes: Buffer): Promise<Descriptor> {
  const hex = createHash('sha256').update(bytes).digest('hex')
  await writeFile(join(blobsFolder(layout), hex), bytes)
  return { mediaType, digest: `sha256:${hex}`, size: bytes.length }
}

/** One tar of a layout, the same for the same layout. It appears under its name when it is whole. */
export async function writeArchive(layout: string, archive: string, mtime: Date): Promise<void> {
  const unfinished = `${archive}.unfinished`
  const tar = pack()
  const blobs = (await readdir(blobsFolder(layout))).toSorted().map((name) => `blobs/sha256/${name}`)
  const add = async () => {
    for (const name of ['oci-layout', 'index.json', ...blobs]) {
      const path = join(layout, name)
      await addFile(tar, path, { name, size: (await stat(path)).size, mode: 0o644, uid: 0, gid: 0, mtime })
    }
    tar.finalize()
  }
  await Promise.all([add(), pipeline(tar, createWriteStream(unfinished))])
  await rename(unfinished, archive)
}
