import { pMapIterable } from 'p-map'
import { tryParseDigest, type Digest } from '../oci/digest.ts'
import { tryParseTag, type RepositoryName, type Tag } from '../oci/names.ts'
import { StorageUnavailable, type WriteLease } from '../storage/driver.ts'
import { removeLink, removeLinks, writeLink } from './links.ts'
import { revisionLinkKey, tagFolder, tagHistoryKey, tagLinkKey, tagsFolder } from './layout.ts'
import { untilOver, type Protocol } from './protocol.ts'
import { tagLeaseMs } from './safety.ts'
import { shareReads } from './shared-reads.ts'

export interface Page {
  /** At most this many. */
  readonly limit: number
  /** Only what sorts after it. */
  readonly last?: string
}

export interface Listing<T> {
  readonly items: readonly T[]
  readonly hasMore: boolean
}

export interface Tags {
  /** Where the tag points now: a read of storage that begins after the call. */
  resolve(name: RepositoryName, tag: Tag): Promise<Digest | undefined>
  /** In ASCII order, without those whose manifest was deleted. */
  list(name: RepositoryName, page: Page): Promise<Listing<Tag>>
  set(name: RepositoryName, tag: Tag, digest: Digest, lease: WriteLease): Promise<void>
  /** end-9, by tag: false where there is none. Its manifest stays. */
  remove(name: RepositoryName, tag: Tag): Promise<boolean>
}

const listConcurrency = 32

export function tags(protocol: Protocol): Tags {
  const { driver } = protocol
  const readShared = shareReads((key: string) => driver.read(key, { maxBytes: 4096 }))

  const resolve = async (name: RepositoryName, tag: Tag) => {
    const link = await readShared(tagLinkKey(name, tag))
    return link && tryParseDigest(link.toString('latin1').trim())
  }
  const isShown = async (name: RepositoryName, tag: Tag) => {
    const digest = await resolve(name, tag)
    return digest !== undefined && (await driver.stat(revisionLinkKey(name, digest))).object !== undefined
  }

  return {
    resolve,

    async list(name, { limit, last }) {
      const items: Tag[] = []
      const shown = pMapIterable(
        await sortedTags(name, last),
        async (tag) => ((await isShown(name, tag)) ? [tag] : []),
        { concurrency: listConcurrency },
      )
      for await (const found of shown) {
        if (found.length > 0 && items.length === limit) return { items, hasMore: true }
        items.push(...found)
      }
      return { items, hasMore: false }
    },

    async set(name, tag, digest, lease) {
      await writeLink(driver, tagHistoryKey(name, tag, digest), digest, lease)
      const short = { ...lease, durationMs: Math.min(lease.durationMs, tagLeaseMs) }
      const key = tagLinkKey(name, tag)
      try {
        await driver.write(key, Buffer.from(digest), { lease: short, isRepeatable: false })
      } catch (error) {
        if (!(error instanceof StorageUnavailable && error.mayStillHappen)) throw error
        // No answer. Once it can no longer take effect, storage says whether it did.
        await untilOver(protocol, key, short)
        if ((await resolve(name, tag)) !== digest) throw error
      }
    },

    async remove(name, tag) {
      if (!(await removeLink(protocol, tagLinkKey(name, tag)))) return false
      // Its history goes too: distribution lists every tag that has a folder. A tag that is there again was pushed.
      const history: string[] = []
      for await (const { key } of driver.list(tagFolder(name, tag))) {
        if (key !== tagLinkKey(name, tag)) history.push(key)
      }
      await removeLinks(protocol, history)
      return true
    },
  }

  /**
   * Storage lists `a-b/` before `a/`, so the names are put into the order of the tags here. Listing begins right
   * after the key `last`, which no tag has: whatever sorts after the tag `last` comes after that key, too.
   */
  async function sortedTags(name: RepositoryName, last: string | undefined): Promise<Tag[]> {
    const found: Tag[] = []
    for await (const folder of driver.listNames(
      tagsFolder(name),
      last === undefined ? {} : { after: last },
    )) {
      const tag = tryParseTag(folder.replace(/\/$/, ''))
      if (tag && (last === undefined || tag > last)) found.push(tag)
    }
    return found.toSorted()
  }
}
