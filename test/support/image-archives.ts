/** The images of images.ts as the files that client programs read. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { descriptorOf, type TestBlob, type TestManifest } from './images.ts'
import { buildTar } from './tar.ts'

/** What `docker save` writes: a tar of one image, its layers as they are. */
export function dockerArchive({ blobs: [config, ...layers] }: TestManifest, tag: string): Buffer {
  if (!config) throw new TypeError('an image has a config; an index has none')
  const nameOf = (blob: TestBlob) => blob.digest.replace(/^sha256:(.{64})$/, '$1.tar')
  const listing = [{ Config: config.digest, RepoTags: [tag], Layers: layers.map((layer) => nameOf(layer)) }]
  return buildTar([
    { name: config.digest, content: config.bytes },
    ...layers.map((layer) => ({ name: nameOf(layer), content: layer.bytes })),
    { name: 'manifest.json', content: Buffer.from(JSON.stringify(listing)) },
  ])
}

/** An OCI image layout (image-spec, "OCI Image Layout") in `folder`: manifests with all that is below them. */
export async function writeImageLayout(folder: string, manifests: readonly TestManifest[]): Promise<void> {
  await mkdir(join(folder, 'blobs', 'sha256'), { recursive: true })
  await writeFile(join(folder, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  const index = {
    schemaVersion: 2,
    manifests: manifests.map((manifest) => ({
      ...descriptorOf(manifest),
      ...(manifest.platform && { platform: manifest.platform }),
    })),
  }
  await writeFile(join(folder, 'index.json'), JSON.stringify(index))
  for (const manifest of manifests) await writeBlobs(folder, manifest)
}

async function writeBlobs(folder: string, manifest: TestManifest): Promise<void> {
  for (const { digest, bytes } of [manifest, ...manifest.blobs]) {
    await writeFile(join(folder, 'blobs', ...digest.split(':')), bytes)
  }
  for (const child of manifest.children) await writeBlobs(folder, child)
}
