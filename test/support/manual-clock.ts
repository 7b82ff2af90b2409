import type { Clock } from '../../src/clock.ts'

export interface ManualClock extends Clock {
  /** Moves both times on, and wakes who sleeps no longer. */
  advance(ms: number): void
}

interface Sleeper {
  readonly until: number
  readonly wake: () => void
}

/** A clock that stands still unless a test moves it. */
export function manualClock(startMs = Date.UTC(2026, 0, 1)): ManualClock {
  const sleepers = new Set<Sleeper>()
  let elapsed = 0
  return {
    now: () => startMs + elapsed,
    monotonic: () => elapsed,
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        signal?.throwIfAborted()
        const sleeper = { until: elapsed + ms, wake: resolve }
        sleepers.add(sleeper)
        signal?.addEventListener('abort', () => {
          sleepers.delete(sleeper)
          reject(new Error('aborted'))
        })
      }),
    advance(ms) {
      elapsed += ms
      for (const sleeper of sleepers) {
        if (sleeper.until > elapsed) continue
        sleepers.delete(sleeper)
        sleeper.wake()
      }
    },
  }
}
