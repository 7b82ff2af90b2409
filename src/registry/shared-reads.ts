/**
 * Concurrent requests for one key share a read, and no answer is staler than storage: a caller joins only a read that
 * begins after it arrived. While one is under way, all who come wait for the next, which they share.
 */
export function shareReads<K, T>(read: (key: K) => Promise<T>): (key: K) => Promise<T> {
  const running = new Map<K, Promise<T>>()
  const next = new Map<K, Promise<T>>()

  const start = (key: K): Promise<T> => {
    const reading = read(key).finally(() => running.delete(key))
    running.set(key, reading)
    return reading
  }
  const startAfter = async (key: K, current: Promise<T>): Promise<T> => {
    await current.catch(() => undefined)
    next.delete(key)
    return start(key)
  }
  return (key) => {
    const current = running.get(key)
    if (!current) return start(key)
    const waiting = next.get(key) ?? startAfter(key, current)
    next.set(key, waiting)
    return waiting
  }
}
