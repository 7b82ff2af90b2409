import { LRUCache } from 'lru-cache'
import { algorithmOf, finishHash, startHash, type Digest } from '../oci/digest.ts'
import type { ObjectStream } from '../storage/driver.ts'

/** Blobs whose bytes were found to be right, as long as they stay the same object: about 30 MB at most. */
const maxVerified = 100_000

/**
 * Whole blobs on their way out are hashed the first time that this process reads them: hashing costs more than sending,
 * and most pulls are of blobs that were pulled before. Bytes that are not what their digest says are never sent whole:
 * the stream fails before its last chunk.
 */
export function verifiedStreams(
  onDamage: () => void,
): (digest: Digest, stream: ObjectStream) => ObjectStream {
  const verified = new LRUCache<Digest, string>({ max: maxVerified })
  return (digest, stream) => {
    const { size, version } = stream.object
    if (verified.get(digest) === version) return stream
    const body = verifying(stream.body, size, digest, (isRight) => {
      if (isRight) verified.set(digest, version)
      else onDamage()
    })
    return { ...stream, body }
  }
}

/** Not a generator: one that was never begun would not pass its end on, and what the stream holds stayed open. */
function verifying(
  body: AsyncIterable<Buffer>,
  size: number,
  digest: Digest,
  told: (isRight: boolean) => void,
): AsyncIterable<Buffer> {
  return {
    [Symbol.asyncIterator]() {
      const chunks = body[Symbol.asyncIterator]()
      const hash = startHash(algorithmOf(digest))
      let left = size
      let isKnown = false

      const verify = async () => {
        isKnown = true
        const actual = finishHash(hash, algorithmOf(digest))
        told(actual === digest)
        if (actual === digest) return
        await chunks.return?.()
        throw new Error(`blob ${digest} has been damaged in storage: its bytes have the digest ${actual}`)
      }
      return {
        async next() {
          const next = await chunks.next()
          if (!next.done) {
            hash.update(next.value)
            left -= next.value.length
          }
          if (!isKnown && left <= 0) await verify()
          // Whoever asked for so many bytes finds out by itself that they did not come.
          else if (!isKnown && next.done === true) told(false)
          return next
        },
        async return() {
          await chunks.return?.()
          return { done: true, value: undefined }
        },
      }
    },
  }
}
