/** A registry without HTTP, on memory and a manual clock, every storage operation noted: for the collection's protocol. */
import { setImmediate as tick } from 'node:timers/promises'
import { digestOf, type Digest } from '../../src/oci/digest.ts'
import { mediaTypes } from '../../src/oci/media-types.ts'
import { parseReference, parseRepositoryName, parseTag, type RepositoryName } from '../../src/oci/names.ts'
import { openRegistry, type Registry } from '../../src/registry/registry.ts'
import type { Driver } from '../../src/storage/driver.ts'
import { memoryDriver } from '../../src/storage/memory.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { collectorRecords, type CollectorRecords } from './collector-records.ts'
import { logOperations } from './driver-log.ts'
import { manualClock, type ManualClock } from './manual-clock.ts'

export interface ProtocolRegistry extends Disposable {
  readonly clock: ManualClock
  /** The storage itself: what is done here is not noted. */
  readonly storage: Driver
  readonly registry: Registry
  readonly collector: CollectorRecords
  readonly lines: readonly string[]
  /** What the registry asked of the storage since the last call, each as `verb key` with digests by their names. */
  operations(): string[]
}

export interface ProtocolRegistryOptions {
  readonly clock?: ManualClock
  readonly storage?: Driver
  /** Between the registry and the storage; what it does to operations is not noted. */
  readonly wrap?: (driver: Driver) => Driver
  readonly acceptsSparseImages?: boolean
  readonly claimOwner?: string
}

export async function openProtocolRegistry(options: ProtocolRegistryOptions = {}): Promise<ProtocolRegistry> {
  const clock = options.clock ?? manualClock()
  const storage = options.storage ?? memoryDriver({ clock })
  const logged = logOperations(options.wrap?.(storage) ?? storage)
  const lines: string[] = []
  const destination = { write: (line: string) => lines.push(line) }
  const registry = await openRegistry({
    driver: logged.driver,
    clock,
    log: createLog({ level: 'debug', format: 'json', destination }),
    claimOwner: options.claimOwner ?? 'test',
    manifestMaxBytes: 4 * 2 ** 20,
    uploadExpiryMs: 365 * 86_400_000,
    acceptsSparseImages: options.acceptsSparseImages ?? false,
  })
  await settled()
  logged.clear()
  return {
    clock,
    storage,
    registry,
    collector: collectorRecords(storage),
    lines,
    operations() {
      const said = logged.operations.map(({ verb, key }) => `${verb} ${shortKey(key)}`)
      logged.clear()
      return said
    },
    [Symbol.dispose]: () => registry.close(),
  }
}

/** Lets everything run that does not wait for the clock. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await tick()
}

/** Moves the clock on, half a second at a time, until `work` has ended; how many ms that took. */
export async function elapsedUntil(
  clock: ManualClock,
  work: Promise<unknown>,
  limitMs = 3_600_000,
): Promise<number> {
  let isOver = false
  const over = () => void (isOver = true)
  work.then(over, over)
  const begun = clock.monotonic()
  for (;;) {
    await settled()
    const elapsed = clock.monotonic() - begun
    if (isOver) return elapsed
    if (elapsed > limitMs) throw new Error(`not over after ${limitMs} ms`)
    clock.advance(500)
  }
}

export const repository = parseRepositoryName('library/app')

export interface Image {
  readonly digest: Digest
  readonly bytes: Buffer
}

const describe = (content: string, mediaType: string) => ({
  mediaType,
  digest: digestOf(Buffer.from(content), 'sha256'),
  size: Buffer.byteLength(content),
})

export const digestOfText = (content: string): Digest => digestOf(Buffer.from(content), 'sha256')

function imageOfJson(json: object): Image {
  const bytes = Buffer.from(JSON.stringify(json))
  return { bytes, digest: digestOf(bytes, 'sha256') }
}

/** Config and layers are these texts. */
export function image(config: string, layers: readonly string[], more: object = {}): Image {
  return imageOfJson({
    schemaVersion: 2,
    mediaType: mediaTypes.imageManifest,
    config: describe(config, 'application/vnd.oci.image.config.v1+json'),
    layers: layers.map((layer) => describe(layer, 'application/vnd.oci.image.layer.v1.tar')),
    ...more,
  })
}

export function descriptor({ digest, bytes }: Image, mediaType: string = mediaTypes.imageManifest) {
  return { mediaType, digest, size: bytes.length }
}

export function imageIndex(manifests: readonly object[], more: object = {}): Image {
  return imageOfJson({ schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests, ...more })
}

export async function pushBlob(
  { registry }: Pick<ProtocolRegistry, 'registry'>,
  content: string,
  name: RepositoryName = repository,
): Promise<void> {
  const bytes = Buffer.from(content)
  await registry.uploads.push(name, digestOf(bytes, 'sha256'), {
    chunks: chunksOf(bytes),
    size: bytes.length,
  })
}

export async function* chunksOf(...chunks: readonly Buffer[]): AsyncGenerator<Buffer> {
  yield* chunks
}

export async function putManifest(
  { registry }: Pick<ProtocolRegistry, 'registry'>,
  { bytes, digest }: Image,
  reference: string = digest,
  tags: readonly string[] = [],
): Promise<void> {
  await registry.manifests.put(repository, {
    reference: parseReference(reference),
    tags: tags.map(parseTag),
    bytes,
    contentType: undefined,
  })
}

/** Everything in the storage. */
export async function keysOf(storage: Driver, prefix = ''): Promise<string[]> {
  const listed = await Array.fromAsync(storage.list(prefix))
  return listed.map(({ key }) => key)
}

const v2 = 'docker/registry/v2'

/** The keys of `repository`, written out as docs/GARBAGE-COLLECTION.md and the layout of distribution name them. */
export const keys = {
  data: (digest: Digest) => `${v2}/blobs/sha256/${hex(digest).slice(0, 2)}/${hex(digest)}/data`,
  layer: (digest: Digest) => `${v2}/repositories/${repository}/_layers/sha256/${hex(digest)}/link`,
  revision: (digest: Digest) =>
    `${v2}/repositories/${repository}/_manifests/revisions/sha256/${hex(digest)}/link`,
  tag: (tag: string) => `${v2}/repositories/${repository}/_manifests/tags/${tag}/current/link`,
  history: (tag: string, digest: Digest) =>
    `${v2}/repositories/${repository}/_manifests/tags/${tag}/index/sha256/${hex(digest)}/link`,
  referrer: (subject: Digest, referrer: Digest) =>
    `stowage/repositories/${repository}/_referrers/links/sha256/${hex(subject)}/sha256/${hex(referrer)}`,
} as const

const hex = (digest: Digest) => digest.slice('sha256:'.length)

/** Keys as people read them: folders that say nothing left out, digests to 8 digits, sessions without their id. */
export function shortKey(key: string): string {
  return key
    .replace(`${v2}/repositories/${repository}/`, '')
    .replace(`${v2}/`, '')
    .replace(`stowage/repositories/${repository}/`, '')
    .replace('stowage/', '')
    .replaceAll(/sha256\/([0-9a-f]{2}\/)?([0-9a-f]{8})[0-9a-f]{56}/g, '$2')
    .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, 'ID')
    .replace(/(rescues\/\d+\/)[0-9a-f]{64}/, '$1ID')
}
