import { randomUUID } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { z } from 'zod'
import { algorithms, type Algorithm } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import type { RepositoryName } from '../oci/names.ts'
import { segmentKey, type Driver, type Listed, type UploadHandle } from '../storage/driver.ts'
import { decodeJson, encodeJson } from './json.ts'
import { segmentsPrefix, sessionFolder, sessionKey } from './layout.ts'

/**
 * An upload under way (specification, "Pushing blobs"), as it stands in the bucket, so that any replica continues it:
 *
 *   uploads/<id>/session        who it belongs to, and a multipart upload that only this record knows of
 *   uploads/<id>/data/<offset>  what was received: segments, each written whole and only if absent
 *
 * The offset is where the chain of segments ends. A client's last PUT makes the blob out of them (compose), or, where
 * nothing was received before it, streams straight to the blob's own key.
 */
export interface Session {
  readonly id: string
  readonly repository: RepositoryName
  /** end-4c: what the client said that the digest will be in. */
  readonly algorithm: Algorithm
}

export interface OpenSession extends Session {
  /** The chain from byte 0 on. */
  readonly segments: readonly Listed[]
  /** Segments behind a gap: a process died while it wrote several. They count for nothing, and give way. */
  readonly strays: readonly Listed[]
  /** How many bytes have been received. */
  readonly offset: number
}

const recordSchema = z.object({
  repository: z.string(),
  algorithm: z.enum(algorithms),
  /** Multipart uploads that only this record knows of: more than one where a server died in the middle of one. */
  uploads: z.array(z.object({ key: z.string(), id: z.string().exactOptional() })).default([]),
})
export type SessionRecord = z.infer<typeof recordSchema>

export interface Sessions {
  create(repository: RepositoryName, algorithm: Algorithm): Promise<OpenSession>
  /** @throws OciError BLOB_UPLOAD_UNKNOWN where there is none of this id in this repository */
  open(repository: RepositoryName, id: string): Promise<OpenSession>
  /** Writes down a multipart upload that the session now has, too. */
  record(session: Session, upload: UploadHandle): Promise<void>
  /** Writes the record again as it is, so that it is young. */
  touch(session: Session): Promise<void>
  /**
   * Removes all that the session has in the bucket, the record last, and gives up uploads that it names; `completed` is
   * the one that became the blob.
   */
  remove(session: OpenSession, completed?: UploadHandle): Promise<void>
}

const idGrammar = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

export function sessions(driver: Driver): Sessions {
  /** What never changes of a session, so that the replica that made it need not read it. */
  const known = new LRUCache<string, Session>({ max: 10_000 })

  /** Sessions whose record may name uploads: somebody wrote it after it was made here, or it was made elsewhere. */
  const mayHaveUploads = new LRUCache<string, true>({ max: 10_000 })

  const write = async ({ id, repository, algorithm }: Session, uploads: readonly UploadHandle[]) => {
    await driver.write(sessionKey(id), encodeJson({ repository, algorithm, uploads }))
  }
  const find = async (repository: RepositoryName, id: string): Promise<Session | undefined> => {
    if (!idGrammar.test(id)) return undefined
    const session = known.get(id) ?? (await readSession(driver, id, repository))
    if (session?.repository !== repository) return undefined
    if (!known.has(id)) mayHaveUploads.set(id, true)
    known.set(id, session)
    return session
  }

  return {
    async record(session, upload) {
      mayHaveUploads.set(session.id, true)
      const stored = await readRecord(driver, session.id)
      const others = stored?.uploads.filter(({ key, id }) => key !== upload.key || id !== undefined) ?? []
      await write(session, [...others, upload])
    },

    async touch(session) {
      const stored = await readRecord(driver, session.id)
      if (stored) await write(session, stored.uploads)
    },

    async create(repository, algorithm) {
      const session = { id: randomUUID(), repository, algorithm }
      await write(session, [])
      known.set(session.id, session)
      return { ...session, segments: [], strays: [], offset: 0 }
    },

    async open(repository, id) {
      const session = await find(repository, id)
      const listed: Listed[] = []
      // One listing tells both: whether the session is still there, and what it has.
      if (session) for await (const found of driver.list(sessionFolder(id))) listed.push(found)
      if (!session || !listed.some((found) => found.key === sessionKey(id))) {
        throw new OciError('BLOB_UPLOAD_UNKNOWN', {
          message: 'no such upload: it was finished, cancelled or has expired; begin a new one',
          detail: { upload: id.slice(0, 100) },
        })
      }
      const segments = listed.filter((found) => found.key !== sessionKey(id))
      return { ...session, ...chainOf(id, segments) }
    },

    async remove({ id, segments, strays }, completed) {
      const isClear = !mayHaveUploads.has(id) || (await abortUploads(driver, id, completed))
      known.delete(id)
      mayHaveUploads.delete(id)
      const keys = [...segments, ...strays].map((segment) => segment.key)
      if (keys.length > 0) await driver.remove(keys)
      if (isClear) await driver.remove([sessionKey(id)])
      else await setAside(driver, id)
    },
  }
}

/**
 * Ends the uploads that a session's record names, other than the one that was completed. False
 * where one is known by its key alone: others may be uploading to that key right now, so it is left to expiry.
 */
async function abortUploads(driver: Driver, id: string, completed?: UploadHandle): Promise<boolean> {
  const record = await readRecord(driver, id)
  const uploads = (record?.uploads ?? []).filter(
    (upload) => upload.id === undefined || upload.id !== completed?.id,
  )
  for (const upload of uploads)
    if (upload.id !== undefined) await driver.abortUpload(upload, { begunBefore: 0 })
  return uploads.every((upload) => upload.id !== undefined)
}

/** The session is over for its client; what only expiry may end goes into one that nobody knows. */
async function setAside(driver: Driver, id: string): Promise<void> {
  const bytes = await driver.read(sessionKey(id))
  if (bytes) await driver.write(sessionKey(randomUUID()), bytes)
  await driver.remove([sessionKey(id)])
}

export async function readRecord(driver: Driver, id: string): Promise<SessionRecord | undefined> {
  const bytes = await driver.read(sessionKey(id))
  return bytes && decodeJson(sessionKey(id), bytes, recordSchema)
}

async function readSession(
  driver: Driver,
  id: string,
  repository: RepositoryName,
): Promise<Session | undefined> {
  const record = await readRecord(driver, id)
  return record?.repository === repository ? { id, repository, algorithm: record.algorithm } : undefined
}

/** Segments never overlap, and the chain ends where the next one is missing. */
function chainOf(id: string, listed: readonly Listed[]): Pick<OpenSession, 'segments' | 'strays' | 'offset'> {
  let offset = 0
  let count = 0
  for (const { key, object } of listed) {
    if (key !== segmentKey(segmentsPrefix(id), offset)) break
    offset += object.size
    count++
  }
  return { segments: listed.slice(0, count), strays: listed.slice(count), offset }
}
