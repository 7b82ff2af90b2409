/** Blobs on their way in. What is stored of an upload stands in sessions.ts. */
import type { Clock } from '../clock.ts'
import { algorithmOf, finishHash, startHash, type Algorithm, type Digest } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import type { RepositoryName } from '../oci/names.ts'
import { PreconditionFailed, type Driver, type Upload, type UploadHandle } from '../storage/driver.ts'
import type { Blobs } from './blobs.ts'
import { blobKey, segmentsPrefix } from './layout.ts'
import { hashOfSegments, sessionHashes } from './session-hashes.ts'
import type { OpenSession, Session, Sessions } from './sessions.ts'

/** A body as it arrives. `offset` is the first byte that its Content-Range names, `size` its length, if it says so. */
export interface Body {
  readonly chunks: AsyncIterable<Buffer>
  readonly size?: number
  readonly offset?: number
}

export interface Uploads {
  /** end-4a, end-4c */
  start(name: RepositoryName, algorithm: Algorithm): Promise<Session>
  /** end-13 */
  status(name: RepositoryName, id: string): Promise<OpenSession>
  /** end-5: how many bytes the session has then. @throws OciError CHUNK_OUT_OF_ORDER; the session stays usable */
  append(name: RepositoryName, id: string, body: Body): Promise<number>
  /** end-6. @throws OciError DIGEST_INVALID | CHUNK_OUT_OF_ORDER; the session stays usable */
  finish(name: RepositoryName, id: string, digest: Digest, body: Body): Promise<void>
  /** end-4b: all in one request. */
  push(name: RepositoryName, digest: Digest, body: Body): Promise<void>
  /** end-14 */
  cancel(name: RepositoryName, id: string): Promise<void>
}

export interface UploadsOptions {
  readonly driver: Driver
  readonly clock: Clock
  readonly blobs: Blobs
  readonly sessions: Sessions
  /** A session expires when nothing was written to it for so long. */
  readonly expiryMs: number
}

/** What the storage was asked to begin for a session, and where that is written down. */
interface Recorder {
  readonly record: (handle: UploadHandle) => Promise<void>
  readonly recorded: () => UploadHandle | undefined
}

interface Pushed {
  /** The multipart upload that became the blob, or was given up because the blob was there by then. */
  readonly upload: UploadHandle | undefined
}

/** Up to here drivers hold a body back until it is whole, so that storing it again costs nothing before it is asked. */
const smallBytes = 4 * 1024 * 1024

export function uploads({ driver, clock, blobs, sessions, expiryMs }: UploadsOptions): Uploads {
  const hashes = sessionHashes()

  return {
    start: (name, algorithm) => sessions.create(name, algorithm),
    status: (name, id) => sessions.open(name, id),

    async append(name, id, body) {
      const session = await sessions.open(name, id)
      return (await appendTo(session, body)).offset
    },

    async finish(name, id, digest, body) {
      const session = await sessions.open(name, id)
      checkOffset(session, body)
      if (session.offset === 0 && body.size !== 0) {
        const pushed = await pushDirectly(session, digest, body)
        if (pushed) return sessions.remove(session, pushed.upload)
        throw digestMismatch(digest)
      }
      await commitSegments(body.size === 0 ? session : await appendTo(session, body), digest)
    },

    async push(name, digest, body) {
      const session = await sessions.create(name, algorithmOf(digest))
      let pushed: Pushed | undefined
      try {
        pushed = await pushDirectly(session, digest, body)
      } finally {
        await sessions.remove(session, pushed?.upload)
      }
      if (!pushed) throw digestMismatch(digest)
    },

    async cancel(name, id) {
      const session = await sessions.open(name, id)
      hashes.forget(id)
      await sessions.remove(session)
    },
  }

  /** The digest is known at the start: straight to the blob's own key, visible only if it matches. */
  async function pushDirectly(session: Session, digest: Digest, body: Body): Promise<Pushed | undefined> {
    const algorithm = algorithmOf(digest)
    const hash = startHash(algorithm)
    // A large blob that is there already is not stored again, but verified all the same. It is asked under the protocol.
    const isLarge = (body.size ?? Number.POSITIVE_INFINITY) > smallBytes
    const isThere = isLarge && (await blobs.stat(session.repository, digest)) !== undefined
    const recorder = recorderOf(session)
    const upload = isThere ? undefined : await openUpload(recorder, digest, body)
    try {
      for await (const chunk of keptAlive(session, body.chunks)) {
        hash.update(chunk)
        await upload?.write(chunk)
      }
      if (finishHash(hash, algorithm) !== digest) return undefined
      await blobs.commit(session.repository, digest, async (_key, lease) => {
        if (!upload) throw blobVanished(digest)
        await upload.complete({ lease })
      })
      return { upload: recorder.recorded() }
    } finally {
      await upload?.abort()
    }
  }

  function openUpload({ record }: Recorder, digest: Digest, { size }: Body): Promise<Upload> {
    return driver.upload(blobKey(digest), { ...(size === undefined ? {} : { size }), record })
  }

  function recorderOf(session: Session): Recorder {
    let latest: UploadHandle | undefined
    return {
      async record(handle) {
        latest = handle
        await sessions.record(session, handle)
      },
      recorded: () => latest,
    }
  }

  /** What was received stays, also when the client goes away in the middle: it continues from there. */
  async function appendTo(session: OpenSession, body: Body): Promise<OpenSession> {
    checkOffset(session, body)
    const hash = hashes.take(session)
    if (session.strays.length > 0) await driver.remove(session.strays.map(({ key }) => key))
    const append = await driver.append(segmentsPrefix(session.id), session.offset)
    let received = 0
    let failure: { readonly error: unknown } | undefined
    try {
      for await (const chunk of keptAlive(session, body.chunks)) {
        hash?.update(chunk)
        received += chunk.length
        await append.write(chunk)
      }
    } catch (error) {
      failure = { error }
    }
    const added = await closeAppend(session, append.close())
    const stored = added.reduce((sum, { object }) => sum + object.size, 0)
    const segments = [...session.segments, ...added]
    const longer = { ...session, segments, strays: [], offset: session.offset + stored }
    // Where the storage failed, the hash has seen more than was stored: it is of no use to who continues.
    if (hash && stored === received) hashes.keep(longer, hash)
    if (failure) throw failure.error
    return longer
  }

  async function closeAppend<T>({ repository, id }: Session, closing: Promise<T>): Promise<T> {
    try {
      return await closing
    } catch (error) {
      if (!(error instanceof PreconditionFailed)) throw error
      // Somebody else appended at this offset meanwhile: the client is told where the session is now.
      const { offset } = await sessions.open(repository, id)
      throw outOfOrder(offset, error)
    }
  }

  /** The digest is known at the end: the blob is composed of the very segments whose bytes were hashed. */
  async function commitSegments(session: OpenSession, digest: Digest): Promise<void> {
    const hash =
      hashes.take(session, algorithmOf(digest)) ?? (await hashOfSegments(driver, session.segments, digest))
    if (finishHash(hash, algorithmOf(digest)) !== digest) throw digestMismatch(digest)
    const { record, recorded } = recorderOf(session)
    try {
      await blobs.commit(session.repository, digest, (key, lease) =>
        driver.compose(session.segments, key, { lease, record }),
      )
    } catch (error) {
      if (error instanceof PreconditionFailed) throw uploadChanged(session, error)
      throw error
    }
    await sessions.remove(session, recorded())
  }

  /** A long body writes nothing that shows its session's age, so the record is written again now and then. */
  async function* keptAlive(session: Session, chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    let since = clock.monotonic()
    for await (const chunk of chunks) {
      yield chunk
      if (clock.monotonic() - since < expiryMs / 4) continue
      await sessions.touch(session)
      since = clock.monotonic()
    }
  }
}

/** end-5, end-6: chunks MUST come in order; one that does not gets 416, and the session stays usable. */
function checkOffset(session: OpenSession, body: Body): void {
  if (body.offset === undefined || body.offset === session.offset) return
  throw outOfOrder(session.offset)
}

function outOfOrder(offset: number, cause?: unknown): OciError {
  return new OciError('CHUNK_OUT_OF_ORDER', {
    message: `chunk out of order: the next byte of this upload is byte ${offset}`,
    headers: { Range: rangeOf(offset) },
    cause,
  })
}

/** The Range header of a session: `0-<last byte>`; a session without a byte says `0-0`, as all registries do. */
export function rangeOf(offset: number): string {
  return `0-${Math.max(0, offset - 1)}`
}

function digestMismatch(digest: Digest): OciError {
  return new OciError('DIGEST_INVALID', { detail: { digest } })
}

function uploadChanged({ id }: Session, cause: unknown): OciError {
  return new OciError('BLOB_UPLOAD_INVALID', {
    message: `upload ${id} changed while it was finished; begin a new one`,
    cause,
  })
}

function blobVanished(digest: Digest): OciError {
  return new OciError('UNAVAILABLE', {
    message: `${digest} was there when this upload began and was deleted meanwhile; push it again`,
    headers: { 'Retry-After': '1' },
  })
}
