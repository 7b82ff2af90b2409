import type { Driver } from '../../src/storage/driver.ts'
import { tapDriver, type Operation } from './driver-tap.ts'

export interface Interruption {
  /** Which operation, from 1 on, of those that `matches`. */
  readonly at: number
  readonly when: 'before' | 'during' | 'after'
  readonly matches?: (operation: Operation) => boolean
  /** Runs once. Before or after: what it throws, the operation throws; what it waits for, the operation waits for. */
  readonly interrupt: (operation: Operation) => unknown
}

/** Something happens just before, while or just after the k-th operation is carried out: a pause, a failure, the end of the process. */
export function interruptDriver(driver: Driver, interruption: Interruption): Driver {
  const { at, when, matches = () => true, interrupt } = interruption
  let count = 0
  return tapDriver(driver, async (operation, run) => {
    const isIt = matches(operation) && ++count === at
    if (isIt && when === 'before') await interrupt(operation)
    const running = run()
    if (isIt && when === 'during') void interrupt(operation)
    const result = await running
    if (isIt && when === 'after') await interrupt(operation)
    return result
  })
}

/** An interruption that waits until it is told to go on. */
export interface Pause extends Disposable {
  readonly interrupt: () => Promise<void>
  /** Resolves when the operation is there. */
  readonly reached: Promise<void>
  resume(): void
}

export function pause(): Pause {
  const reached = Promise.withResolvers<void>()
  const resumed = Promise.withResolvers<void>()
  const resume = () => resumed.resolve()
  return {
    reached: reached.promise,
    resume,
    async interrupt() {
      reached.resolve()
      await resumed.promise
    },
    [Symbol.dispose]: resume,
  }
}

/** No signal handler, no cleaning up: as if the machine had lost its power, except that its disks keep running. */
export function killProcess(): Promise<never> {
  process.kill(process.pid, 'SIGKILL')
  return new Promise(() => undefined)
}
