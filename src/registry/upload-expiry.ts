import { StorageUnavailable, type Driver, type Listed } from '../storage/driver.ts'
import { claimKey, sessionKey, uploadsFolder } from './layout.ts'
import { readRecord } from './sessions.ts'

export interface ExpiryOptions {
  readonly driver: Driver
  /** A session expires when its newest object is older than this by the storage's clock. */
  readonly expiryMs: number
}

/**
 * Removes the sessions that nobody continued, with their parts and unfinished multipart uploads. Safe beside live
 * servers: a session's objects are young while it is used.
 * @returns how many sessions were removed
 * @throws AggregateError where some could not be; the others were
 */
export async function expireUploads({ driver, expiryMs }: ExpiryOptions): Promise<number> {
  const { date } = await driver.stat(claimKey)
  let expired = 0
  const failures: unknown[] = []
  for await (const session of listSessions(driver)) {
    if (date - session.modified < expiryMs) continue
    try {
      await removeSession(driver, session, date - expiryMs)
      expired++
    } catch (error) {
      // It stays, and its turn comes again; those after it must not wait for that.
      failures.push(error)
    }
  }
  await driver.sweepTemporary?.(expiryMs)
  if (failures.length > 0)
    throw new AggregateError(failures, `${failures.length} uploads could not be removed`)
  return expired
}

interface StoredSession {
  readonly id: string
  readonly keys: readonly string[]
  readonly modified: number
}

/** A session's keys follow one another. */
async function* listSessions(driver: Driver): AsyncGenerator<StoredSession> {
  let id: string | undefined
  let found: Listed[] = []
  const session = () => ({
    id: id ?? '',
    keys: found.map(({ key }) => key),
    modified: Math.max(...found.map(({ object }) => object.modified)),
  })
  for await (const listed of driver.list(uploadsFolder)) {
    const next = listed.key.slice(uploadsFolder.length).split('/')[0]
    if (next !== id) {
      if (found.length > 0) yield session()
      id = next
      found = []
    }
    found.push(listed)
  }
  if (found.length > 0) yield session()
}

/** The record goes last: until then a crash leaves something to find the rest by. */
async function removeSession(
  driver: Driver,
  { id, keys }: StoredSession,
  begunBefore: number,
): Promise<void> {
  const record = await readRecord(driver, id).catch((error: unknown) => {
    // One that is damaged names no upload; the bucket's own lifecycle rule ends what is left.
    if (error instanceof StorageUnavailable) throw error
    return undefined
  })
  for (const upload of record?.uploads ?? []) await driver.abortUpload(upload, { begunBefore })
  await driver.remove(keys.filter((key) => key !== sessionKey(id)))
  await driver.remove([sessionKey(id)])
}
