import { expect, test } from '@jest/globals'
import { expireUploads } from '../../../src/registry/upload-expiry.ts'
import { StorageUnavailable, type Driver, type UploadHandle } from '../../../src/storage/driver.ts'
import { memoryDriver } from '../../../src/storage/memory.ts'
import { interruptDriver } from '../../support/driver-interrupt.ts'
import { manualClock } from '../../support/manual-clock.ts'
import { keysOf } from '../../support/protocol-registry.ts'

const expiryMs = 3_600_000
const ids = ['a', 'b', 'c'].map((digit) => `${digit.repeat(8)}-0000-4000-8000-000000000000`)
const folder = (id: string) => `stowage/uploads/${id}/`
const upload = { key: 'docker/registry/v2/blobs/sha256/00/00/data', id: 'multipart' }

/** Three sessions with a segment each, all of the same age; and what was aborted. */
async function openSessions() {
  const clock = manualClock()
  const aborted: (UploadHandle & { readonly begunBefore: number })[] = []
  const storage: Driver = {
    ...memoryDriver({ clock }),
    abortUpload: async (handle, { begunBefore }) => void aborted.push({ ...handle, begunBefore }),
  }
  for (const id of ids) {
    const record = { format: 1, repository: 'library/app', algorithm: 'sha256', uploads: [upload] }
    await storage.write(`${folder(id)}session`, Buffer.from(JSON.stringify(record)))
    await storage.write(`${folder(id)}data/0000000000000000`, Buffer.from('segment'))
  }
  return { clock, storage, aborted }
}

test('a session expires with its segments and its upload when its newest object is old enough', async () => {
  const { clock, storage, aborted } = await openSessions()
  clock.advance(expiryMs - 1)
  expect(await expireUploads({ driver: storage, expiryMs })).toBe(0)
  expect(await keysOf(storage)).toHaveLength(6)
  clock.advance(1)
  // The second one goes on.
  await storage.write(`${folder(ids[1] ?? '')}data/0000000000000007`, Buffer.from('more'))
  expect(await expireUploads({ driver: storage, expiryMs })).toBe(2)
  const left = await keysOf(storage)
  expect(left).toHaveLength(3)
  expect(left.every((key) => key.startsWith(folder(ids[1] ?? '')))).toBe(true)
  const begunBefore = clock.now() - expiryMs
  expect(aborted).toEqual([
    { ...upload, begunBefore },
    { ...upload, begunBefore },
  ])
})

test('the record goes last, so that a crash leaves something to find the rest by', async () => {
  const { clock, storage } = await openSessions()
  clock.advance(expiryMs)
  const removed: string[] = []
  const driver: Driver = {
    ...storage,
    async remove(keys) {
      removed.push(...keys)
      await storage.remove(keys)
    },
  }
  await expireUploads({ driver, expiryMs })
  expect(removed.map((key) => key.replace(/^stowage\/uploads\/[^/]+/, ''))).toEqual(
    ids.flatMap(() => ['/data/0000000000000000', '/session']),
  )
})

test('what a process that died left without its record expires too', async () => {
  const { clock, storage } = await openSessions()
  await storage.remove(ids.map((id) => `${folder(id)}session`))
  clock.advance(expiryMs)
  expect(await expireUploads({ driver: storage, expiryMs })).toBe(3)
  expect(await keysOf(storage)).toEqual([])
})

test('a session whose record the storage does not give at that moment stays whole; the others go', async () => {
  const { clock, storage, aborted } = await openSessions()
  clock.advance(expiryMs)
  const driver = interruptDriver(storage, {
    at: 1,
    when: 'before',
    matches: ({ verb }) => verb === 'read',
    interrupt() {
      throw new StorageUnavailable('slow down')
    },
  })
  await expect(expireUploads({ driver, expiryMs })).rejects.toThrow('1 uploads could not be removed')
  expect(await keysOf(storage)).toHaveLength(2)
  expect(await expireUploads({ driver, expiryMs })).toBe(1)
  expect(aborted).toHaveLength(3)
})

test('a session whose record is damaged expires with its segments; one of a newer version stays', async () => {
  const { clock, storage } = await openSessions()
  await storage.write(`${folder(ids[0] ?? '')}session`, Buffer.from('{'))
  await storage.write(`${folder(ids[1] ?? '')}session`, Buffer.from('{"format":2,"uploads":[]}'))
  clock.advance(expiryMs)
  await expect(expireUploads({ driver: storage, expiryMs })).rejects.toThrow('1 uploads')
  expect((await keysOf(storage)).every((key) => key.startsWith(folder(ids[1] ?? '')))).toBe(true)
})
