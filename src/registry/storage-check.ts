import type { Driver } from '../storage/driver.ts'
import { claimKey } from './layout.ts'

/**
 * Whether the storage is there, by one small request. A claim that was seen once never goes: where it has, this is an
 * empty mount point or another bucket.
 * @throws what the driver throws, or an Error where it is another storage than before
 */
export function storageCheck(driver: Driver): (signal: AbortSignal) => Promise<void> {
  let hadClaim = false
  return async (signal) => {
    const { object } = await driver.stat(claimKey, { signal })
    if (hadClaim && !object)
      throw new Error('the claim of the storage is gone: is this still the same storage?')
    hadClaim ||= object !== undefined
  }
}
