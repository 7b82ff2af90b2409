import { segmentKey, type Append, type CallOptions, type Listed } from '../driver.ts'
import type { Bucket } from './client.ts'
import { pieceBytesAt } from './options.ts'
import { Pieces, type Piece } from './pieces.ts'
import { remove } from './remove.ts'
import { createOnce } from './write.ts'

interface Segment {
  readonly offset: number
  readonly listed: Listed
}

/**
 * Segments, several on their way at once; but the first has to be there before another is sent, so that of two who
 * append at one offset the loser has written nothing. Where a later one fails (the storage is down, or somebody went
 * on from a listing of what we had), those of ours that lie behind it are taken away: segments neither overlap nor
 * leave a gap, unless this process dies at that very moment.
 *
 * `options.signal` ends the wait for memory, never the sending: what came is made durable, also for a client that has
 * gone.
 */
export function openAppend(bucket: Bucket, prefix: string, start: number, options: CallOptions): Append {
  const written: Segment[] = []
  let failedAt = Infinity
  let first: Promise<void> | undefined

  const create = async ({ offset, bytes }: Piece) => {
    const key = segmentKey(prefix, start + offset)
    try {
      written.push({ offset, listed: { key, object: await createOnce(bucket, key, bytes, {}) } })
    } catch (error) {
      failedAt = Math.min(failedAt, offset)
      throw error
    }
  }
  const pieces = new Pieces({
    memory: bucket.memory,
    concurrency: bucket.concurrency,
    sizeAt: (offset) => pieceBytesAt(start + offset, bucket.sizes),
    async send(piece) {
      if (piece.index === 0) return (first = create(piece))
      await first
      await create(piece)
    },
    ...(options.signal && { signal: options.signal }),
  })
  const takeAwayTheRest = async () => {
    const behind = written.filter(({ offset }) => offset > failedAt)
    await remove(
      bucket,
      behind.map(({ listed }) => listed.key),
      {},
    )
  }

  return {
    write: (chunk) => pieces.write(chunk),
    async close() {
      try {
        await pieces.sendAll()
      } catch (error) {
        await pieces.settle()
        await takeAwayTheRest().catch(() => {
          // What failed first is what has to be told.
        })
        throw error
      } finally {
        pieces.free()
      }
      return written.toSorted((a, b) => a.offset - b.offset).map(({ listed }) => listed)
    },
  }
}
