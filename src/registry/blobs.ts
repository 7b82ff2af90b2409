import type { Digest } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import type { RepositoryName } from '../oci/names.ts'
import type { ObjectInfo, ObjectStream, Range, WriteLease } from '../storage/driver.ts'
import { blobKey, layerLinkKey } from './layout.ts'
import { removeLink, writeLink } from './links.ts'
import { pushUnderProtocol, readUnderProtocol, type Protocol } from './protocol.ts'
import { shareReads } from './shared-reads.ts'
import { verifiedStreams } from './verified-streams.ts'

/** Layers and configs: bytes by digest, which a repository has by its link. */
export interface Blobs {
  /** A client may rely on it for the grace: it need not push the blob again. */
  stat(name: RepositoryName, digest: Digest): Promise<ObjectInfo | undefined>
  /** Whether the repository has it, for an answer that promises nothing. */
  find(name: RepositoryName, digest: Digest): Promise<ObjectInfo | undefined>
  open(name: RepositoryName, digest: Digest, range?: Range): Promise<ObjectStream | undefined>
  presign(digest: Digest, method: 'GET' | 'HEAD'): Promise<string | undefined>
  /** end-11: true where the blob is now in `name`; false where `from`, or with no `from` the bucket, has none. */
  mount(name: RepositoryName, digest: Digest, from: RepositoryName | undefined): Promise<boolean>
  /** Bytes that were verified become a blob of the repository. `store` runs where they are not stored yet. */
  commit(
    name: RepositoryName,
    digest: Digest,
    store: (key: string, lease: WriteLease) => Promise<void>,
  ): Promise<void>
  /** end-10: false where the repository has none. Other repositories keep theirs. */
  remove(name: RepositoryName, digest: Digest): Promise<boolean>
}

/** Half of the shortest sensible grace, so that a URL never outlives what it names. */
const presignedSeconds = 600

/** @param onDamage called when stored bytes are found not to be what their digest says */
export function blobs(protocol: Protocol, onDamage: () => void): Blobs {
  const { driver } = protocol
  const verified = verifiedStreams(onDamage)
  const statShared = shareReads((key: string) => driver.stat(key))

  const find = async (name: RepositoryName, digest: Digest) => {
    const [link, data] = await Promise.all([
      statShared(layerLinkKey(name, digest)),
      statShared(blobKey(digest)),
    ])
    return link.object && data.object
  }
  const namesOf = (name: RepositoryName, digest: Digest) =>
    new Set([layerLinkKey(name, digest), blobKey(digest)])

  return {
    find,

    stat: (name, digest) =>
      readUnderProtocol(
        protocol,
        async () => namesOf(name, digest),
        () => find(name, digest),
      ),

    async open(name, digest, range) {
      const [link, stream] = await Promise.all([
        statShared(layerLinkKey(name, digest)),
        driver.stream(blobKey(digest), range ? { range } : {}),
      ])
      if (link.object) return stream && !range ? verified(digest, stream) : stream
      await endStream(stream)
      return undefined
    },

    presign: async (digest, method) => driver.presign?.(blobKey(digest), method, presignedSeconds),

    async mount(name, digest, from) {
      const source = from ? [layerLinkKey(from, digest), blobKey(digest)] : [blobKey(digest)]
      let isThere = false
      await pushUnderProtocol(protocol, {
        promises: 'blob',
        names: async () => namesOf(name, digest),
        check: async () => {
          isThere = (await Promise.all(source.map((key) => driver.stat(key)))).every((stat) => stat.object)
          return true
        },
        store: async (lease) => {
          if (isThere) await writeLink(driver, layerLinkKey(name, digest), digest, lease)
        },
      })
      return isThere
    },

    async commit(name, digest, store) {
      let isStored = false
      await pushUnderProtocol(protocol, {
        promises: 'blob',
        names: async () => namesOf(name, digest),
        check: async () => {
          isStored = (await driver.stat(blobKey(digest))).object !== undefined
          return true
        },
        store: async (lease) => {
          if (!isStored) await store(blobKey(digest), lease)
          await writeLink(driver, layerLinkKey(name, digest), digest, lease)
        },
      })
    },

    remove: (name, digest) => removeLink(protocol, layerLinkKey(name, digest)),
  }
}

export function blobUnknown(digest: Digest): OciError {
  return new OciError('BLOB_UNKNOWN', { detail: { digest } })
}

async function endStream(stream: ObjectStream | undefined): Promise<void> {
  await stream?.body[Symbol.asyncIterator]().return?.()
}
