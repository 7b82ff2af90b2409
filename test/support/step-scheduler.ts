/** Interleavings, decided by a test: each storage operation of each process waits until it is let through. */
import { setImmediate as tick } from 'node:timers/promises'
import type { Driver } from '../../src/storage/driver.ts'
import { tapDriver } from './driver-tap.ts'
import type { ManualClock } from './manual-clock.ts'

/** Lets one process make so many operations, after the time has moved on. */
export interface Burst {
  readonly process: number
  readonly steps: number
  readonly jumpMs: number
}

export interface StepScheduler {
  /** The storage as a process sees it. */
  driverOf(process: number, storage: Driver): Driver
  /** Runs the processes to their end: by the bursts, and then each in its turn. */
  run(processes: readonly Promise<unknown>[], bursts: readonly Burst[]): Promise<void>
}

/** More turns than any run of a few pushes and collections takes: beyond, somebody waits for ever. */
const maxTurns = 20_000

export function stepScheduler(clock: ManualClock): StepScheduler {
  const waiting = new Map<number, (() => void)[]>()
  let isRunning = false

  const letThrough = async (process: number): Promise<boolean> => {
    const release = waiting.get(process)?.shift()
    release?.()
    // What follows from it happens in microtasks, all of them before this.
    if (release) await tick()
    return release !== undefined
  }
  const jump = async (ms: number) => {
    if (ms > 0) clock.advance(ms)
    await tick()
  }

  const runBurst = async ({ process, steps, jumpMs }: Burst) => {
    await jump(jumpMs)
    for (let step = 0; step < steps && (await letThrough(process)); step++);
  }
  const runTurn = async () => {
    let isStuck = true
    for (const process of waiting.keys()) if (await letThrough(process)) isStuck = false
    // Everybody sleeps: a round is waited for.
    if (isStuck) await jump(500)
  }

  return {
    driverOf: (process, storage) =>
      tapDriver(storage, async (_operation, run) => {
        if (!isRunning) return run()
        await new Promise<void>((resolve) => {
          const queue = waiting.get(process) ?? []
          queue.push(resolve)
          waiting.set(process, queue)
        })
        return run()
      }),

    async run(processes, bursts) {
      isRunning = true
      let isOver = false
      const over = Promise.allSettled(processes).then(() => (isOver = true))
      await tick()
      for (const burst of bursts) await runBurst(burst)
      for (let turn = 0; !isOver; turn++) {
        if (turn > maxTurns) throw new Error('the processes wait for ever')
        await runTurn()
      }
      isRunning = false
      for (const queue of waiting.values()) for (const release of queue.splice(0)) release()
      await over
    },
  }
}
