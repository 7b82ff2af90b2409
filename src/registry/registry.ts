import type { Clock } from '../clock.ts'
import type { Driver } from '../storage/driver.ts'
import type { Log } from '../telemetry/log.ts'
import { blobs, type Blobs } from './blobs.ts'
import { openClaim, readClaim } from './claim.ts'
import { manifestContents, type ContentObserver } from './manifest-content.ts'
import { manifests, type Manifests } from './manifests.ts'
import type { Protocol } from './protocol.ts'
import { readOnly } from './read-only.ts'
import { referrers, type Referrers } from './referrers.ts'
import { repositories, type Repositories } from './repositories.ts'
import { openRunRecords } from './run-records.ts'
import { defaultSafetyTimes } from './safety.ts'
import { sessions } from './sessions.ts'
import { storageCheck } from './storage-check.ts'
import { tags, type Tags } from './tags.ts'
import { expireUploads } from './upload-expiry.ts'
import { uploads, type Uploads } from './uploads.ts'

/** What reaches HTTP of the storage's own errors: it does not answer right now. */
export { ObjectTooLarge, StorageUnavailable } from '../storage/driver.ts'

/** Repositories of content-addressed things on a storage driver. */
export interface Registry {
  readonly blobs: Blobs
  readonly uploads: Uploads
  readonly manifests: Manifests
  readonly tags: Tags
  readonly referrers: Referrers
  readonly repositories: Repositories
  /** The largest manifest that is taken, in bytes. */
  readonly manifestMaxBytes: number
  /** @throws where the storage cannot be reached, or is not the one that it was */
  checkStorage(signal: AbortSignal): Promise<void>
  /** What is known of the collections: the generation, and how old that knowledge is. */
  collectionRecords(): { readonly generation: number; readonly ageMs: number }
  /** Ends what runs in the background; the driver stays open. */
  close(): void
}

export interface RegistryOptions {
  readonly driver: Driver
  readonly clock: Clock
  readonly log: Log
  readonly claimOwner: string
  readonly manifestMaxBytes: number
  readonly uploadExpiryMs: number
  /** Whether an image may be pushed without all its layers; an index may always lack children. Default false. */
  readonly acceptsSparseImages?: boolean
  /** Whether nothing in the storage is changed, rescues aside, and no upload expires. Default false. */
  readonly isReadOnly?: boolean
  readonly observer?: ContentObserver | undefined
}

export async function openRegistry(options: RegistryOptions): Promise<Registry> {
  const { clock, log, isReadOnly = false } = options
  const driver = isReadOnly ? readOnly(options.driver) : options.driver
  const times = isReadOnly
    ? ((await readClaim(driver))?.times ?? defaultSafetyTimes)
    : (await openClaim({ driver, log, owner: options.claimOwner })).times
  const records = await openRunRecords({
    driver,
    clock,
    onPollError: (error) => log.warn({ err: error }, 'the records of the collection could not be read'),
  })
  const protocol: Protocol = { driver, clock, records, times }
  const contents = manifestContents({ driver, log, observer: options.observer })
  const allTags = tags(protocol)
  const allBlobs = blobs(protocol, () => options.observer?.contentDamaged('blob'))
  const expiry = new AbortController()
  if (!isReadOnly) void expireRegularly(options, expiry.signal)
  return {
    blobs: allBlobs,
    uploads: uploads({
      driver,
      clock,
      blobs: allBlobs,
      sessions: sessions(driver),
      expiryMs: options.uploadExpiryMs,
    }),
    manifests: manifests({
      protocol,
      contents,
      tags: allTags,
      acceptsSparseImages: options.acceptsSparseImages ?? false,
    }),
    tags: allTags,
    referrers: referrers({ protocol, contents, isReadOnly }),
    repositories: repositories(driver),
    manifestMaxBytes: options.manifestMaxBytes,
    checkStorage: storageCheck(driver),
    collectionRecords() {
      const { generation, readAt } = records.newest()
      return { generation, ageMs: clock.monotonic() - readAt }
    },
    close() {
      records.close()
      expiry.abort()
    },
  }
}

/** Every replica does it, a tenth of the age apart: it is one listing of the sessions, and whoever comes first wins. */
async function expireRegularly(
  { driver, clock, log, uploadExpiryMs }: RegistryOptions,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      const expired = await expireUploads({ driver, expiryMs: uploadExpiryMs })
      if (expired > 0) log.info({ expired }, 'uploads that nobody continued have expired')
    } catch (error) {
      log.warn({ err: error }, 'expired uploads could not be removed')
    }
    await clock.sleep(Math.min(uploadExpiryMs / 10, 3_600_000), signal).catch(() => undefined)
  }
}
