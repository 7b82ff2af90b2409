/** A registry that is read-only: pulls go on, nothing of the storage changes. */
import { describe, expect, test } from '@jest/globals'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { endpoints } from '../../src/http/endpoints.ts'
import { digestOf, type Digest } from '../../src/oci/digest.ts'
import { blobKey, claimKey, rescuesFolder, roots } from '../../src/registry/layout.ts'
import type { Driver } from '../../src/storage/driver.ts'
import { filesystemDriver } from '../../src/storage/filesystem.ts'
import { memoryDriver } from '../../src/storage/memory.ts'
import { collectorRecords } from '../support/collector-records.ts'
import { logOperations } from '../support/driver-log.ts'
import {
  errorOf,
  imageOf,
  jsonOf,
  keysOf,
  openTestRegistry,
  pushBlob,
  pushImage,
  putManifest,
  startUpload,
  type TestRegistry,
} from '../support/registry.ts'

const reading = new Set(['stat', 'read', 'stream', 'list', 'list names', 'presign'])

interface ReadOnly extends TestRegistry {
  /** What changed the storage, or was meant to, as `verb key`. */
  readonly changes: () => string[]
}

async function openReadOnly(storage: Driver): Promise<ReadOnly> {
  const { driver, operations } = logOperations(storage)
  const at = await openTestRegistry({ driver, registry: { isReadOnly: true }, app: { isReadOnly: true } })
  const changes = () =>
    operations.filter(({ verb }) => !reading.has(verb)).map(({ verb, key }) => `${verb} ${key}`)
  return { ...at, changes }
}

/** A storage with an image, a referrer of it and an upload that was begun. */
async function filled() {
  const storage = memoryDriver()
  await using writer = await openTestRegistry({ driver: storage })
  const image = await pushImage(writer, 'team/app', 'v1')
  const subject = { mediaType: imageOf([]).mediaType, digest: image, size: 1 }
  await putManifest(writer, 'team/app', 'referrer', imageOf([], { subject, artifactType: 'a/b' }))
  return { storage, image, upload: await startUpload(writer, 'team/app') }
}

/** As another registry leaves it, which knows neither claim nor links of referrers. */
async function removeOurs(storage: Driver): Promise<void> {
  await storage.remove(await keysOf(storage, roots.stowage))
}

async function pullEverything({ send }: TestRegistry, image: Digest): Promise<void> {
  const layer = digestOf(Buffer.from('layer'))
  for (const target of [
    'GET /v2/',
    'GET /v2/_catalog',
    'GET /v2/team/app/tags/list',
    'GET /v2/team/app/manifests/v1',
    `HEAD /v2/team/app/manifests/${image}`,
    `GET /v2/team/app/blobs/${layer}`,
    `HEAD /v2/team/app/blobs/${layer}`,
  ]) {
    expect([target, (await send(target)).status]).toEqual([target, 200])
  }
  const { manifests } = jsonOf<{ manifests: object[] }>(await send(`GET /v2/team/app/referrers/${image}`))
  expect(manifests).toEqual([expect.objectContaining({ artifactType: 'a/b' })])
}

test('everything can be pulled, and nothing is written', async () => {
  const { storage, image, upload } = await filled()
  await using at = await openReadOnly(storage)
  await pullEverything(at, image)
  expect((await at.send(`GET ${upload}`)).status).toBe(204)
  expect(at.changes()).toEqual([])
})

test('the storage of another registry is served as it is, its referrers found among its manifests', async () => {
  const { storage, image } = await filled()
  await removeOurs(storage)
  const before = await keysOf(storage)
  await using at = await openReadOnly(storage)
  await pullEverything(at, image)
  await pullEverything(at, image)
  expect(at.changes()).toEqual([])
  expect(await keysOf(storage)).toEqual(before)
})

test('an empty storage is not claimed', async () => {
  await using at = await openReadOnly(memoryDriver())
  expect((await at.send('GET /v2/a/tags/list')).status).toBe(404)
  expect(await keysOf(at.driver)).toEqual([])
  expect(at.changes()).toEqual([])
})

test('every endpoint that would change something is refused, by a sentence and 405, before its body is read', async () => {
  const { storage, image, upload } = await filled()
  await using at = await openReadOnly(storage)
  const blob = digestOf(Buffer.from('layer'))
  const targets = [
    'POST /v2/team/app/blobs/uploads/',
    `POST /v2/team/app/blobs/uploads/?digest=${blob}`,
    `POST /v2/team/app/blobs/uploads/?mount=${blob}&from=team/app`,
    `PATCH ${upload}`,
    `PUT ${upload}?digest=${blob}`,
    `DELETE ${upload}`,
    'PUT /v2/team/app/manifests/v2',
    'DELETE /v2/team/app/manifests/v1',
    `DELETE /v2/team/app/manifests/${image}`,
    `DELETE /v2/team/app/blobs/${blob}`,
  ]
  const methods = new Set(targets.map((target) => target.split(' ')[0]?.toLowerCase()))
  expect(methods).toEqual(new Set(endpoints.map(({ method }) => method).filter((m) => !/get|head/.test(m))))
  for (const target of targets) {
    const answer = await at.send(target, {
      headers: { Expect: '100-continue', 'Content-Length': 5 },
      body: 'layer',
    })
    expect([target, errorOf(answer)]).toEqual([target, '405 UNSUPPORTED'])
    expect(jsonOf<{ errors: { message: string }[] }>(answer).errors[0]?.message).toContain('read-only')
    expect(answer.headers.allow ?? '').not.toMatch(/POST|PUT|PATCH|DELETE/)
  }
  expect((await at.send(`DELETE /v2/team/app/blobs/${blob}`)).headers.allow).toBe('HEAD, GET')
  expect(at.changes()).toEqual([])
  await pullEverything(at, image)
})

test('what a collection has announced is asked back by a read: the one thing that is written', async () => {
  const storage = memoryDriver()
  const layer = 'condemned layer'
  {
    await using writer = await openTestRegistry({ driver: storage })
    await pushBlob(writer, 'a', layer)
  }
  await collectorRecords(storage).done(1, [blobKey(digestOf(Buffer.from(layer)))])
  await using at = await openReadOnly(storage)
  expect((await at.send(`HEAD /v2/a/blobs/${digestOf(Buffer.from(layer))}`)).status).toBe(200)
  const changes = at.changes()
  expect(changes).toEqual([expect.stringMatching(new RegExp(`^write ${rescuesFolder}`))])
})

describe('a directory', () => {
  test('of files stays as it is, also where it was never a storage', async () => {
    const root = await mkdtemp(join(tmpdir(), 'stowage-read-only-'))
    try {
      const driver = await filesystemDriver({ root, isReadOnly: true })
      await using at = await openReadOnly(driver)
      expect((await at.send('GET /v2/a/manifests/v1')).status).toBe(404)
      expect(await readdir(root)).toEqual([])
      expect((await driver.stat(claimKey)).object).toBeUndefined()
    } finally {
      await rm(root, { recursive: true })
    }
  })

  test('that is not there is not made', async () => {
    const root = join(tmpdir(), 'stowage-there-is-no-such-folder')
    await expect(filesystemDriver({ root, isReadOnly: true })).rejects.toThrow('ENOENT')
  })
})

test('whatever asks for a change, the storage of a read-only registry refuses it', async () => {
  const { storage, image } = await filled()
  await using at = await openReadOnly(storage)
  const name = 'team/app' as Parameters<typeof at.registry.manifests.remove>[0]
  await expect(at.registry.manifests.remove(name, image)).rejects.toThrow('read-only')
  await expect(at.registry.uploads.start(name, 'sha256')).rejects.toThrow('read-only')
  await expect(at.registry.blobs.mount(name, image, undefined)).rejects.toThrow('read-only')
  expect(at.changes()).toEqual([])
})
