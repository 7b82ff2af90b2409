import pMap from 'p-map'
import type { Digest } from '../oci/digest.ts'
import { descriptorSchema, type Descriptor } from '../oci/manifest.ts'
import type { RepositoryName } from '../oci/names.ts'
import type { Driver, WriteLease } from '../storage/driver.ts'
import { decodeJson, encodeJson } from './json.ts'
import {
  digestOfReferrerLink,
  digestOfRevisionLink,
  referrerLinkKey,
  referrerLinksFolder,
  referrersCompleteKey,
  repositoryReferrersCompleteKey,
  revisionLinkKey,
  revisionsFolder,
} from './layout.ts'
import type { ManifestContent, ManifestContents } from './manifest-content.ts'
import { pushUnderProtocol, type Protocol } from './protocol.ts'
import { namesOfManifest } from './references.ts'

/** The manifests that name another one as their subject (specification, "Listing Referrers"). */
export interface Referrers {
  /** In the order of their digests. Empty for a subject or a repository that nobody knows. */
  list(name: RepositoryName, subject: Digest): Promise<Descriptor[]>
}

const listConcurrency = 16

export interface ReferrersOptions {
  readonly protocol: Protocol
  readonly contents: ManifestContents
  /** Whether links that another registry did not make are not made up for: then manifests are read for each listing. */
  readonly isReadOnly: boolean
}

export function referrers({ protocol, contents, isReadOnly }: ReferrersOptions): Referrers {
  const { driver } = protocol
  /** Repositories of which this process knows that every referrer has its link; a marker is never taken back. */
  const complete = new Set<RepositoryName>()
  let isBucketComplete = false

  return {
    async list(name, subject) {
      if (!(await isComplete(name))) {
        if (isReadOnly) return findAmongManifests(name, subject)
        await makeComplete(name)
      }
      const links: Digest[] = []
      for await (const { key } of driver.list(referrerLinksFolder(name, subject))) {
        const referrer = digestOfReferrerLink(name, subject, key)
        if (referrer) links.push(referrer)
      }
      const found = await pMap(links, (referrer) => readReferrer(name, subject, referrer), {
        concurrency: listConcurrency,
      })
      return found.filter((descriptor) => descriptor !== undefined)
    },
  }

  /** A link may outlive its manifest for a while: what the repository does not have is not shown. */
  async function readReferrer(
    name: RepositoryName,
    subject: Digest,
    referrer: Digest,
  ): Promise<Descriptor | undefined> {
    const key = referrerLinkKey(name, subject, referrer)
    const [link, revision] = await Promise.all([
      driver.read(key),
      driver.stat(revisionLinkKey(name, referrer)),
    ])
    if (!link || !revision.object) return undefined
    return decodeJson(key, link, descriptorSchema)
  }

  async function isComplete(name: RepositoryName): Promise<boolean> {
    if (isBucketComplete || complete.has(name)) return true
    isBucketComplete = (await driver.stat(referrersCompleteKey)).object !== undefined
    if (isBucketComplete) return true
    if (!(await driver.stat(repositoryReferrersCompleteKey(name))).object) return false
    complete.add(name)
    return true
  }

  /** "Enabling the Referrers API": manifests that another registry wrote get their links before the first answer. */
  async function makeComplete(name: RepositoryName): Promise<void> {
    const revisions = await listRevisions(name)
    // Nothing is left behind for a repository that does not exist: anyone may ask for any name.
    if (revisions.length === 0) return
    await pMap(revisions, (digest) => linkReferrer(name, digest), { concurrency: listConcurrency })
    await driver.write(repositoryReferrersCompleteKey(name), encodeJson({}))
    complete.add(name)
  }

  async function findAmongManifests(name: RepositoryName, subject: Digest): Promise<Descriptor[]> {
    const found = await pMap(await listRevisions(name), (digest) => contents.find(digest), {
      concurrency: listConcurrency,
    })
    return found.flatMap((content) => (content?.manifest.subject === subject ? [descriptorOf(content)] : []))
  }

  async function listRevisions(name: RepositoryName): Promise<Digest[]> {
    const revisions: Digest[] = []
    for await (const { key } of driver.list(revisionsFolder(name))) {
      const digest = digestOfRevisionLink(name, key)
      if (digest) revisions.push(digest)
    }
    return revisions
  }

  async function linkReferrer(name: RepositoryName, digest: Digest): Promise<void> {
    // One that cannot be read is no referrer that could be shown.
    const content = await contents.find(digest)
    const subject = content?.manifest.subject
    if (!content || !subject) return
    let isThere = false
    await pushUnderProtocol(protocol, {
      promises: 'manifest',
      names: () => namesOfManifest({ contents }, name, digest, content.manifest),
      check: async () => {
        isThere = (await driver.stat(revisionLinkKey(name, digest))).object !== undefined
        return true
      },
      store: async (lease) => {
        if (isThere) await writeReferrer(driver, name, content, lease)
      },
    })
  }
}

/** One small object per subject and referrer that holds the descriptor: a listing reads no manifests. */
export async function writeReferrer(
  driver: Driver,
  name: RepositoryName,
  content: ManifestContent,
  lease: WriteLease,
): Promise<void> {
  const { subject } = content.manifest
  if (!subject) return
  const key = referrerLinkKey(name, subject, content.digest)
  await driver.write(key, encodeJson({ ...descriptorOf(content) }), { lease })
}

function descriptorOf({ digest, bytes, manifest }: ManifestContent): Descriptor {
  return {
    mediaType: manifest.mediaType,
    digest,
    size: bytes.length,
    ...(manifest.artifactType === undefined ? {} : { artifactType: manifest.artifactType }),
    ...(manifest.annotations === undefined ? {} : { annotations: manifest.annotations }),
  }
}
