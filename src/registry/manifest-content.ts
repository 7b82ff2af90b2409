import { LRUCache } from 'lru-cache'
import { algorithmOf, digestOf, type Digest } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import { parseManifest, type Manifest } from '../oci/manifest.ts'
import type { Driver } from '../storage/driver.ts'
import type { Log } from '../telemetry/log.ts'
import { blobKey } from './layout.ts'
import { shareReads } from './shared-reads.ts'

/** A manifest's bytes as they were pushed, and what they say. */
export interface ManifestContent {
  readonly digest: Digest
  readonly bytes: Buffer
  readonly manifest: Manifest
}

/** Manifests by digest, wherever they are linked: what a digest stands for never changes, so it may be cached. */
export interface ManifestContents {
  /** Whether a repository has it is not asked here. @throws OciError MANIFEST_UNKNOWN where it is damaged */
  get(digest: Digest): Promise<ManifestContent | undefined>
  /** The same, undefined also for what is damaged or no manifest at all: nobody is served it. */
  find(digest: Digest): Promise<ManifestContent | undefined>
  add(content: ManifestContent): void
}

const cacheBytes = 64 * 1024 * 1024
const maxStoredBytes = 64 * 1024 * 1024

/** Told of what only the cache sees. */
export interface ContentObserver {
  manifestLookedUp(isCached: boolean): void
  contentDamaged(kind: 'manifest' | 'blob'): void
}

export interface ManifestContentsOptions {
  readonly driver: Driver
  readonly log: Log
  readonly observer?: ContentObserver | undefined
}

export function manifestContents({ driver, log, observer }: ManifestContentsOptions): ManifestContents {
  const cache = new LRUCache<Digest, ManifestContent>({
    maxSize: cacheBytes,
    sizeCalculation: (content) => content.bytes.length * 2 + 1024,
  })
  const load = shareReads(async (digest: Digest) => {
    const bytes = await readUnlessLarge(driver, digest)
    if (!bytes) return undefined
    if (isDamaged(digest, bytes, log)) {
      observer?.contentDamaged('manifest')
      throw new OciError('MANIFEST_UNKNOWN', {
        message: `manifest ${digest} has been damaged in storage; push it again`,
      })
    }
    const content = parseStored(digest, bytes)
    cache.set(digest, content)
    return content
  })
  const get = async (digest: Digest) => {
    const cached = cache.get(digest)
    observer?.manifestLookedUp(cached !== undefined)
    return cached ?? load(digest)
  }
  return {
    get,
    find: (digest) =>
      get(digest).catch((error: unknown) => {
        if (error instanceof OciError) return undefined
        throw error
      }),
    add: (content) => void cache.set(content.digest, content),
  }
}

/** Any digest may be asked for as a manifest, also that of a large layer. */
async function readUnlessLarge(driver: Driver, digest: Digest): Promise<Buffer | undefined> {
  const key = blobKey(digest)
  try {
    return await driver.read(key, { maxBytes: maxStoredBytes })
  } catch (cause) {
    const { object } = await driver.stat(key)
    if (!object || object.size <= maxStoredBytes) throw cause
    throw new OciError('MANIFEST_UNKNOWN', { message: `${digest} is too large to be a manifest`, cause })
  }
}

function isDamaged(digest: Digest, bytes: Buffer, log: Log): boolean {
  const actual = digestOf(bytes, algorithmOf(digest))
  if (actual === digest) return false
  log.error({ digest, actual, key: blobKey(digest) }, 'a stored manifest has been damaged')
  return true
}

function parseStored(digest: Digest, bytes: Buffer): ManifestContent {
  try {
    return { digest, bytes, manifest: parseManifest(bytes) }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new OciError('MANIFEST_UNKNOWN', {
      message: `manifest ${digest} cannot be served: ${reason}`,
      cause,
    })
  }
}
