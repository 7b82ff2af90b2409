/**
 * Concurrent requests for one key share a read, and no answer is staler than storage: a caller joins only a read that
 * begins after it arrived. While one is under way, all who come wait for the next, which they share. So a key is
 * never read twice at once, which readers with a state of their own rely on.
 */
export function shareReads<K, T>(read: (key: K) => Promise<T>): (key: K) => Promise<T> {
  /** A key is here while it is read, with those who wait for the next read of it. */
  const running = new Map<K, PromiseWithResolvers<T> | undefined>()

  const start = async (key: K): Promise<T> => {
    running.set(key, undefined)
    try {
      return await read(key)
    } finally {
      // In one step, or whoever arrives in between would begin a read beside the next one.
      const waiting = running.get(key)
      running.delete(key)
      waiting?.resolve(start(key))
    }
  }
  return (key) => {
    if (!running.has(key)) return start(key)
    const waiting = running.get(key) ?? Promise.withResolvers<T>()
    running.set(key, waiting)
    return waiting.promise
  }
}
