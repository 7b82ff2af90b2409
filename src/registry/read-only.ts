import { OciError } from '../oci/errors.ts'
import type { Driver } from '../storage/driver.ts'
import { rescuesFolder } from './layout.ts'

/**
 * The same storage, on which nothing is changed whoever asks. What the collection protocol needs of a read stays: a
 * rescue, without which a client would be told of something that is about to be deleted, and the end of a round of
 * deletes that has to come before the answer.
 */
export function readOnly(driver: Driver): Driver {
  const { sweepTemporary: _, ...verbs } = driver
  return {
    ...verbs,
    write: (key, bytes, options) =>
      key.startsWith(rescuesFolder) ? driver.write(key, bytes, options) : refuse(),
    upload: refuse,
    append: refuse,
    compose: refuse,
    remove: refuse,
    abortUpload: refuse,
  }
}

async function refuse(): Promise<never> {
  throw new OciError('UNSUPPORTED', { message: 'this registry is read-only right now' })
}
