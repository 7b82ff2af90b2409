/**
 * Small images for tests, built in memory and the same for the same seed: OCI images, Docker schema 2, indexes and
 * manifest lists, artifacts. image-transfer.ts pushes them and compares what a registry serves.
 */
import { createCipheriv, createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import { mediaTypes } from '../../src/oci/media-types.ts'
import { buildTar } from './tar.ts'

export interface TestBlob {
  readonly mediaType: string
  readonly digest: string
  readonly bytes: Buffer
}

/** A manifest and all that is below it. */
export interface TestManifest {
  readonly mediaType: string
  readonly digest: string
  readonly bytes: Buffer
  /** The config first, then the layers; none for an index. */
  readonly blobs: readonly TestBlob[]
  readonly children: readonly TestManifest[]
  readonly platform?: Platform
  readonly artifactType?: string
  readonly annotations?: Readonly<Record<string, string>>
}

export interface Platform {
  readonly os: string
  readonly architecture: string
  readonly variant?: string
}

export type Format = 'oci' | 'docker'
export type Algorithm = 'sha256' | 'sha512'

const types = {
  oci: {
    manifest: mediaTypes.imageManifest,
    index: mediaTypes.imageIndex,
    config: 'application/vnd.oci.image.config.v1+json',
    layer: 'application/vnd.oci.image.layer.v1.tar+gzip',
  },
  docker: {
    manifest: mediaTypes.dockerManifest,
    index: mediaTypes.dockerManifestList,
    config: 'application/vnd.docker.container.image.v1+json',
    layer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  },
} as const

/** The config of an artifact that has none (image-spec, "Guidance for an Empty Descriptor"). */
export const emptyBlob = blobOf(Buffer.from('{}'), 'application/vnd.oci.empty.v1+json')

export interface ImageOptions {
  readonly format?: Format
  /** The size of each layer's tar: a multiple of 512, at least 2,048; the layer is a few bytes more. Default: [2048]. */
  readonly layerSizes?: readonly number[]
  readonly platform?: Platform
  /** The digests of config and layers; the manifest's own is always sha256. */
  readonly algorithm?: Algorithm
  readonly annotations?: Readonly<Record<string, string>>
  /** image-spec: mediaType "SHOULD be used"; false leaves it out. Default true. */
  readonly saysMediaType?: boolean
}

/** An image that can be run in principle: its config lists its layers, which are tars of one file each. */
export function buildImage(seed: string, options: ImageOptions = {}): TestManifest {
  const { format = 'oci', layerSizes = [2048], platform = linuxAmd64, algorithm, annotations } = options
  const tars = layerSizes.map((size, at) => layerTar(`${seed}/${at}`, size))
  // Stored and not deflated: what the tars hold does not compress.
  const layers = tars.map((tar) => blobOf(gzipSync(tar, { level: 0 }), types[format].layer, algorithm))
  const config = blobOf(
    encode({
      ...platform,
      created: '2026-01-01T00:00:00Z',
      config: { Env: ['PATH=/bin'], Cmd: ['/bin/true'], Labels: { seed } },
      rootfs: { type: 'layers', diff_ids: tars.map((tar) => digestOf(tar)) },
      history: tars.map((_, at) => ({ created: '2026-01-01T00:00:00Z', created_by: `layer ${at}` })),
    }),
    types[format].config,
    algorithm,
  )
  const manifest = {
    schemaVersion: 2,
    ...(options.saysMediaType === false ? {} : { mediaType: types[format].manifest }),
    config: descriptorOf(config),
    layers: layers.map(descriptorOf),
    ...(annotations && { annotations }),
  }
  return {
    ...blobOf(encode(manifest), types[format].manifest),
    blobs: [config, ...layers],
    children: [],
    platform,
    artifactType: config.mediaType,
    ...(annotations && { annotations }),
  }
}

export interface IndexOptions {
  readonly format?: Format
  readonly annotations?: Readonly<Record<string, string>>
}

/** An image index or, for Docker, a manifest list. Children may be indexes themselves. */
export function buildIndex(children: readonly TestManifest[], options: IndexOptions = {}): TestManifest {
  const { format = 'oci', annotations } = options
  const index = {
    schemaVersion: 2,
    mediaType: types[format].index,
    manifests: children.map((child) => ({
      ...descriptorOf(child),
      ...(child.platform && { platform: child.platform }),
    })),
    ...(annotations && { annotations }),
  }
  return { ...blobOf(encode(index), types[format].index), blobs: [], children }
}

export interface ArtifactOptions {
  readonly subject?: TestManifest
  readonly artifactType?: string
  readonly annotations?: Readonly<Record<string, string>>
}

/** An artifact as image-spec 1.1 has it: an image manifest with the empty config, and possibly about another one. */
export function buildArtifact(seed: string, options: ArtifactOptions = {}): TestManifest {
  const { subject, artifactType = 'application/vnd.example.sbom.v1', annotations = { seed } } = options
  const content = blobOf(Buffer.from(`content of ${seed}\n`), 'text/plain')
  const manifest = {
    schemaVersion: 2,
    mediaType: mediaTypes.imageManifest,
    artifactType,
    config: descriptorOf(emptyBlob),
    layers: [descriptorOf(content)],
    ...(subject && { subject: descriptorOf(subject) }),
    annotations,
  }
  return {
    ...blobOf(encode(manifest), mediaTypes.imageManifest),
    blobs: [emptyBlob, content],
    children: [],
    artifactType,
    annotations,
  }
}

export const linuxAmd64: Platform = { os: 'linux', architecture: 'amd64' }
export const linuxArm64: Platform = { os: 'linux', architecture: 'arm64', variant: 'v8' }

export function blobOf(bytes: Buffer, mediaType: string, algorithm: Algorithm = 'sha256'): TestBlob {
  return { mediaType, digest: digestOf(bytes, algorithm), bytes }
}

export function digestOf(bytes: Buffer, algorithm: Algorithm = 'sha256'): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`
}

export interface DescriptorFields {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

export function descriptorOf({ mediaType, digest, bytes }: TestBlob): DescriptorFields {
  return { mediaType, digest, size: bytes.length }
}

/** Bytes that do not compress, the same for the same seed. */
export function seededBytes(seed: string, size: number): Buffer {
  const key = createHash('sha256').update(seed).digest()
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size))
}

/** A tar of exactly `size` bytes: a header, the file, two empty blocks. */
function layerTar(seed: string, size: number): Buffer {
  const contentSize = size - 3 * 512
  if (contentSize <= 0 || size % 512 !== 0) {
    throw new RangeError(`the tar of a layer has a multiple of 512 bytes, at least 2,048, not ${size}`)
  }
  return buildTar([
    { name: `data/${seed.replaceAll(/[^\w-]/g, '-')}`, content: seededBytes(seed, contentSize) },
  ])
}

function encode(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
