import type { Clock } from '../../clock.ts'

/** A turn of the event loop is not held up for longer by these reads, unless a single one takes longer. */
const maxTurnMs = 2
/** A read of a small file takes some 20 us from the page cache. One that takes this long came from a slow disk. */
const slowMs = 10
const avoidMs = 5_000

interface Request<T> {
  readonly promise: Promise<T>
  readonly settle: (look: () => T) => void
}

/**
 * Looks at files without the thread pool, which costs a third of the rate of small answers. The first request for a
 * path in a turn of the event loop schedules one synchronous look at the turn's end, and later ones join it: it
 * begins after all of them arrived, so that none gets anything older than its request.
 * `lookSlowly` does the same through the thread pool: it takes over for a while where the disk turns out to be slow.
 */
export function lookByTurns<T>(
  clock: Clock,
  look: (path: string) => T,
  lookSlowly: (path: string) => Promise<T>,
): (path: string) => Promise<T> {
  const waiting = new Map<string, Request<T>>()
  let avoidedUntil = -Infinity

  const lookAt = (path: string, request: Request<T>) => {
    const begun = clock.monotonic()
    request.settle(() => look(path))
    const ended = clock.monotonic()
    if (ended - begun > slowMs) avoidedUntil = ended + avoidMs
  }
  const endTurn = () => {
    const begun = clock.monotonic()
    for (const [path, request] of waiting) {
      waiting.delete(path)
      lookAt(path, request)
      if (clock.monotonic() - begun > maxTurnMs) break
    }
    if (waiting.size > 0) setImmediate(endTurn)
  }

  return async (path) => {
    const joined = waiting.get(path)
    if (joined) return joined.promise
    if (clock.monotonic() < avoidedUntil) return lookSlowly(path)
    const request = requestOf<T>()
    waiting.set(path, request)
    if (waiting.size === 1) setImmediate(endTurn)
    return request.promise
  }
}

function requestOf<T>(): Request<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>()
  const settle = (look: () => T) => {
    try {
      resolve(look())
    } catch (error) {
      reject(error)
    }
  }
  return { promise, settle }
}
