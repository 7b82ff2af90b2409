/** Links: small objects by which a repository has something. Their body is the digest, as distribution writes it. */
import type { Digest } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import { LeaseExpired, type Driver, type WriteLease } from '../storage/driver.ts'
import type { Protocol } from './protocol.ts'
import { maxAttempts } from './safety.ts'

export async function writeLink(
  driver: Driver,
  key: string,
  digest: Digest,
  lease: WriteLease,
): Promise<void> {
  await driver.write(key, Buffer.from(digest), { lease })
}

/** Removes a link at a client's wish. False where there is none. */
export async function removeLink(protocol: Protocol, key: string): Promise<boolean> {
  const { date, object } = await protocol.driver.stat(key)
  if (!object) return false
  await removeLinks(protocol, [key], date)
  return true
}

/**
 * Removes links at a client's wish: signed for 60 s, and answered only when no attempt can take effect any more, or a
 * late one would remove what was pushed again.
 * @param date the storage's own time, where it was just asked
 */
export async function removeLinks(
  { driver, times }: Protocol,
  keys: readonly string[],
  date?: number,
): Promise<void> {
  const [first] = keys
  if (first === undefined) return
  let from = date
  for (let attempt = 0; attempt < maxAttempts; attempt++) {
    from ??= (await driver.stat(first)).date
    try {
      return await driver.remove(keys, { lease: { date: from, durationMs: times.removeLeaseMs } })
    } catch (error) {
      if (!(error instanceof LeaseExpired)) throw error
      from = undefined
    }
  }
  throw new OciError('UNAVAILABLE', { headers: { 'Retry-After': '1' } })
}
