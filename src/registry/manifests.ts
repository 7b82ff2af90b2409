import { algorithmOf, digestOf, type Digest } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import { parseManifest } from '../oci/manifest.ts'
import type { Reference, RepositoryName, Tag } from '../oci/names.ts'
import type { WriteLease } from '../storage/driver.ts'
import { removeLink, writeLink } from './links.ts'
import { blobKey, revisionLinkKey, tagLinkKey } from './layout.ts'
import type { ManifestContent, ManifestContents } from './manifest-content.ts'
import { pushUnderProtocol, readUnderProtocol, type Protocol } from './protocol.ts'
import { checkReferences, namesOfManifest } from './references.ts'
import { writeReferrer } from './referrers.ts'
import { shareReads } from './shared-reads.ts'
import type { Tags } from './tags.ts'

export interface ManifestPush {
  readonly reference: Reference
  /** end-7b: tags beside the reference. */
  readonly tags: readonly Tag[]
  readonly bytes: Buffer
  readonly contentType: string | undefined
}

export interface Manifests {
  get(name: RepositoryName, reference: Reference): Promise<ManifestContent | undefined>
  /** end-7. @throws OciError MANIFEST_INVALID | DIGEST_INVALID | MANIFEST_BLOB_UNKNOWN */
  put(name: RepositoryName, push: ManifestPush): Promise<ManifestContent>
  /** end-9, by digest: false where the repository has none. Tags that pointed to it answer 404 from then on. */
  remove(name: RepositoryName, digest: Digest): Promise<boolean>
}

export interface ManifestsOptions {
  readonly protocol: Protocol
  readonly contents: ManifestContents
  readonly tags: Tags
  readonly acceptsSparseImages: boolean
}

export function manifests({ protocol, contents, tags, acceptsSparseImages }: ManifestsOptions): Manifests {
  const { driver } = protocol
  const context = { driver, contents, acceptsSparseImages }
  const statShared = shareReads((key: string) => driver.stat(key))

  const getByDigest = (name: RepositoryName, digest: Digest) => {
    const names = async () => {
      const content = await contents.find(digest)
      return content
        ? namesOfManifest(context, name, digest, content.manifest)
        : new Set([revisionLinkKey(name, digest), blobKey(digest)])
    }
    return readUnderProtocol(protocol, names, async () => {
      const link = await statShared(revisionLinkKey(name, digest))
      return link.object && contents.get(digest)
    })
  }

  return {
    async get(name, reference) {
      if ('digest' in reference) return getByDigest(name, reference.digest)
      let digest = await tags.resolve(name, reference.tag)
      while (digest) {
        const content = await getByDigest(name, digest)
        if (content) return content
        // The tag may have been moved in between, and then the manifest that it left been deleted.
        const moved = await tags.resolve(name, reference.tag)
        if (moved === digest) return undefined
        digest = moved
      }
      return undefined
    },

    async put(name, { reference, tags: moreTags, bytes, contentType }) {
      const content = readPushed(reference, bytes, contentType)
      const { digest, manifest } = content
      const allTags = new Set([...('tag' in reference ? [reference.tag] : []), ...moreTags])
      await pushUnderProtocol(protocol, {
        promises: 'manifest',
        names: async () => {
          const names = await namesOfManifest(context, name, digest, manifest)
          for (const tag of allTags) names.add(tagLinkKey(name, tag))
          return names
        },
        check: (names) => checkReferences(context, name, manifest, names),
        store: async (lease) => {
          await storeManifest(name, content, lease)
          for (const tag of allTags) await tags.set(name, tag, digest, lease)
        },
      })
      contents.add(content)
      return content
    },

    // A referrer's own link is left to the collection: without the revision it is not shown, and to take it away here
    // could take it from who pushes the same referrer again at this moment.
    remove: (name, digest) => removeLink(protocol, revisionLinkKey(name, digest)),
  }

  /** The link makes the bytes a manifest of the repository, so they are there before it; the referrer's link follows. */
  async function storeManifest(
    name: RepositoryName,
    content: ManifestContent,
    lease: WriteLease,
  ): Promise<void> {
    await driver.write(blobKey(content.digest), content.bytes, { lease })
    await writeLink(driver, revisionLinkKey(name, content.digest), content.digest, lease)
    if (content.manifest.subject) await writeReferrer(driver, name, content, lease)
  }
}

function readPushed(reference: Reference, bytes: Buffer, contentType: string | undefined): ManifestContent {
  const algorithm = 'digest' in reference ? algorithmOf(reference.digest) : 'sha256'
  const digest = digestOf(bytes, algorithm)
  if ('digest' in reference && digest !== reference.digest) {
    throw new OciError('DIGEST_INVALID', {
      message: 'the manifest does not have the digest that it was pushed under',
      detail: { expected: reference.digest, actual: digest },
    })
  }
  return { digest, bytes, manifest: parseManifest(bytes, contentType) }
}
