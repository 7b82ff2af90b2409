/** What a manifest refers to, as storage keys: the names that the collection's protocol tests, and R3's check. */
import pMap from 'p-map'
import type { Digest } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import type { Manifest } from '../oci/manifest.ts'
import type { RepositoryName } from '../oci/names.ts'
import type { Driver } from '../storage/driver.ts'
import { blobKey, layerLinkKey, referrerLinkKey, revisionLinkKey } from './layout.ts'
import type { ManifestContents } from './manifest-content.ts'

/** How many storage requests the check of one manifest has under way. */
const checkConcurrency = 16

export interface ReferencesContext {
  readonly driver: Driver
  readonly contents: ManifestContents
  /** Whether an image may be pushed without all its layers (docs/adr/0002-sparse-images.md). */
  readonly acceptsSparseImages: boolean
}

/**
 * The keys of a manifest in a repository and of all that it refers to, present or not: of children that are present,
 * transitively.
 */
export async function namesOfManifest(
  context: Pick<ReferencesContext, 'contents'>,
  name: RepositoryName,
  digest: Digest,
  manifest: Manifest,
): Promise<Set<string>> {
  const names = new Set<string>()
  // Each once: indexes that list one another's children many times over would else be walked for ever.
  const walked = new Set<Digest>()

  const walk = async (digest: Digest, manifest: Manifest): Promise<void> => {
    if (walked.has(digest)) return
    walked.add(digest)
    addNames(names, name, digest, manifest)
    await pMap(
      manifest.children,
      async (child) => {
        const content = walked.has(child.digest) ? undefined : await context.contents.find(child.digest)
        if (content) await walk(child.digest, content.manifest)
      },
      { concurrency: checkConcurrency },
    )
  }
  await walk(digest, manifest)
  return names
}

function addNames(names: Set<string>, name: RepositoryName, digest: Digest, manifest: Manifest): void {
  names.add(revisionLinkKey(name, digest)).add(blobKey(digest))
  if (manifest.subject) {
    names.add(referrerLinkKey(name, manifest.subject, digest))
    names.add(revisionLinkKey(name, manifest.subject)).add(blobKey(manifest.subject))
  }
  for (const blob of [...manifest.blobs, ...manifest.foreignBlobs]) {
    names.add(layerLinkKey(name, blob.digest)).add(blobKey(blob.digest))
  }
  for (const child of manifest.children) {
    names.add(revisionLinkKey(name, child.digest)).add(blobKey(child.digest))
  }
}

/**
 * R3: asks storage whether all that a manifest depends on is in the repository. A child of an index may be absent (a
 * sparse index), but one that is present must be complete.
 * @returns false where a child is present that `tested` did not look into: it came after R1
 * @throws OciError MANIFEST_BLOB_UNKNOWN, with the digests that are missing
 */
export async function checkReferences(
  context: ReferencesContext,
  name: RepositoryName,
  manifest: Manifest,
  tested: ReadonlySet<string>,
  checked = new Set<Digest>(),
): Promise<boolean> {
  const { driver, contents } = context
  const exists = async (...keys: string[]) =>
    (await Promise.all(keys.map((key) => driver.stat(key)))).every((stat) => stat.object)

  const needed = context.acceptsSparseImages ? [] : manifest.blobs.map((blob) => blob.digest)
  const found = await pMap(
    new Set(needed),
    async (digest) => ((await exists(layerLinkKey(name, digest), blobKey(digest))) ? undefined : digest),
    { concurrency: checkConcurrency },
  )
  refuseMissing(found.filter((digest) => digest !== undefined))

  const children = await pMap(
    manifest.children,
    async ({ digest }) => {
      // Who came before waits for the answer, or has it.
      if (checked.has(digest)) return true
      checked.add(digest)
      if (!(await exists(revisionLinkKey(name, digest)))) return true
      if (!(await exists(blobKey(digest)))) return refuseMissing([digest])
      const content = await contents.get(digest)
      if (!content) return false
      const names = new Set<string>()
      addNames(names, name, digest, content.manifest)
      return names.isSubsetOf(tested) && checkReferences(context, name, content.manifest, tested, checked)
    },
    { concurrency: checkConcurrency },
  )
  return children.every((isTested) => isTested)
}

function refuseMissing(digests: readonly Digest[]): true {
  if (digests.length === 0) return true
  throw new OciError('MANIFEST_BLOB_UNKNOWN', {
    message: `the manifest refers to what this repository does not have: push ${digests.slice(0, 3).join(', ')}${digests.length > 3 ? ` and ${digests.length - 3} more` : ''} first`,
    detail: { digests },
  })
}
