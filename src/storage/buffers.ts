/**
 * A bound on the bytes that all uploads of a process hold at once. First come, first served: a large request at the
 * head of the queue is not overtaken by small ones. Nobody deadlocks as long as whoever waits here holds only bytes
 * that are on their way to the storage, and so come back by themselves.
 */
export interface ByteBudget {
  readonly maxBytes: number
  /** Bytes held now. */
  heldBytes(): number
  /** The most that were ever held. */
  peakBytes(): number
  /**
   * Waits for its turn. One that asks for more than there is gets all there is. The function that is returned gives
   * the bytes back; called again it does nothing.
   */
  acquire(bytes: number, signal?: AbortSignal): Promise<() => void>
}

interface Waiter {
  readonly bytes: number
  readonly grant: (release: () => void) => void
}

export function byteBudget(maxBytes: number): ByteBudget {
  const queue: Waiter[] = []
  let held = 0
  let peak = 0

  const take = (bytes: number): (() => void) => {
    held += bytes
    peak = Math.max(peak, held)
    let isHeld = true
    return () => {
      if (!isHeld) return
      isHeld = false
      held -= bytes
      serve()
    }
  }
  const serve = () => {
    for (let first = queue[0]; first && held + first.bytes <= maxBytes; first = queue[0]) {
      queue.shift()
      first.grant(take(first.bytes))
    }
  }

  return {
    maxBytes,
    heldBytes: () => held,
    peakBytes: () => peak,
    async acquire(wanted, signal) {
      signal?.throwIfAborted()
      const bytes = Math.min(wanted, maxBytes)
      if (queue.length === 0 && held + bytes <= maxBytes) return take(bytes)
      return new Promise((resolve, reject) => {
        const waiter: Waiter = {
          bytes,
          grant: (release) => {
            signal?.removeEventListener('abort', leave)
            resolve(release)
          },
        }
        const leave = () => {
          queue.splice(queue.indexOf(waiter), 1)
          serve()
          reject(signal?.reason instanceof Error ? signal.reason : new Error('aborted'))
        }
        signal?.addEventListener('abort', leave, { once: true })
        queue.push(waiter)
      })
    },
  }
}
