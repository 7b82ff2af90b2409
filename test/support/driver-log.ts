import type { Driver } from '../../src/storage/driver.ts'
import { tapDriver, type Operation } from './driver-tap.ts'

export interface LoggedDriver {
  readonly driver: Driver
  /** Every operation in the order in which they began, oldest first. */
  readonly operations: readonly Operation[]
  /** Forgets those so far. */
  clear(): void
}

export function logOperations(inner: Driver): LoggedDriver {
  const operations: Operation[] = []
  const driver = tapDriver(inner, (operation, run) => {
    operations.push(operation)
    return run()
  })
  return { driver, operations, clear: () => void operations.splice(0) }
}
