import type { Hash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { algorithmOf, startHash, type Algorithm, type Digest } from '../oci/digest.ts'
import { StorageUnavailable, type Driver, type Listed } from '../storage/driver.ts'
import type { OpenSession } from './sessions.ts'

/**
 * The hash of what a session has received, kept in this process between its requests. A replica that has not seen all
 * of a session has none, and the last PUT reads what is stored, once: every byte is hashed at most twice, however the
 * requests of a session were spread. (A native hash cannot be saved; one that can costs six times the CPU.)
 */
export interface SessionHashes {
  /**
   * Takes the hash of all that the session has so far out of here, if this process saw all of it: who takes it
   * continues it, and another request of the session at the same time finds none.
   */
  take(session: OpenSession, algorithm?: Algorithm): Hash | undefined
  keep(session: OpenSession, hash: Hash): void
  forget(id: string): void
}

interface Kept {
  readonly algorithm: Algorithm
  readonly segments: readonly Listed[]
  readonly hash: Hash
}

const maxSessions = 10_000

export function sessionHashes(): SessionHashes {
  const kept = new LRUCache<string, Kept>({ max: maxSessions })
  return {
    take(session, algorithm = session.algorithm) {
      if (session.segments.length === 0) return startHash(algorithm)
      const found = kept.get(session.id)
      kept.delete(session.id)
      return found?.algorithm === algorithm && isSame(found.segments, session.segments)
        ? found.hash
        : undefined
    },
    keep(session, hash) {
      kept.set(session.id, { algorithm: session.algorithm, segments: session.segments, hash })
    },
    forget(id) {
      kept.delete(id)
    },
  }
}

/** The very same objects: what was hashed is what will be composed, also where a backend let somebody overwrite it. */
function isSame(left: readonly Listed[], right: readonly Listed[]): boolean {
  return (
    left.length === right.length &&
    left.every(({ key, object }, at) => key === right[at]?.key && object.version === right[at].object.version)
  )
}

/** Reads back what is stored. */
export async function hashOfSegments(
  driver: Driver,
  segments: readonly Listed[],
  digest: Digest,
): Promise<Hash> {
  const hash = startHash(algorithmOf(digest))
  for (const { key, object } of segments) {
    const stream = await driver.stream(key)
    if (stream?.object.version !== object.version)
      throw new StorageUnavailable(`${key} has changed while it was read`)
    for await (const chunk of stream.body) hash.update(chunk)
  }
  return hash
}
