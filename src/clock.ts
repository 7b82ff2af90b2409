/** Time as the rest of the project sees it; nobody else reads the machine's clocks. */
export interface Clock {
  /** Wall time in milliseconds since the epoch. Never part of a promise: it may be wrong by any amount. */
  now(): number
  /** Milliseconds on a clock that only moves forward, also while the wall clock is set. */
  monotonic(): number
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      signal?.throwIfAborted()
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', abort)
        resolve()
      }, ms)
      const abort = () => {
        clearTimeout(timer)
        reject(signal?.reason instanceof Error ? signal.reason : new Error('aborted'))
      }
      signal?.addEventListener('abort', abort, { once: true })
    }),
}
