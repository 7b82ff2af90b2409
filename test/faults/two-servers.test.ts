/** Two server processes on one storage: what one answers is true of the other at once. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  expectBlob,
  expectManifest,
  expectNoBlob,
  expectNoManifest,
  registryClient,
} from '../support/image-transfer.ts'
import { blobOf, buildArtifact, buildImage, seededBytes } from '../support/images.ts'
import { credentialsEnv, startMinio, type S3Server } from '../support/s3-servers.ts'
import type { StorageOptions } from './server.ts'
import { startServer, type FaultServer } from './servers.ts'

const mebibyte = 2 ** 20
const name = 'library/app'

/** What the processes need beside their options. */
interface Backend {
  open(): Promise<{ readonly storage: StorageOptions; readonly env: Readonly<Record<string, string>> }>
  close(): Promise<void>
}

let root: string
let minio: S3Server
const backends: Readonly<Record<string, Backend>> = {
  'one directory': {
    async open() {
      root = await mkdtemp(join(tmpdir(), 'stowage-two-'))
      return { storage: { root }, env: {} }
    },
    close: () => rm(root, { recursive: true, force: true }),
  },
  'one bucket': {
    async open() {
      minio = await startMinio()
      await minio.createBucket('two')
      const { endpoint, region } = minio
      const storage = { bucket: 'two', endpoint, region, pathStyle: true, partBytes: 5 * mebibyte }
      return { storage, env: credentialsEnv(minio) }
    },
    close: () => minio.stop(),
  },
}

describe.each(Object.entries(backends))('two servers on %s', (_what, backend) => {
  let servers: readonly [FaultServer, FaultServer]
  const clients = () => servers.map(({ registry }) => registryClient(registry)) as [Client, Client]
  type Client = ReturnType<typeof registryClient>

  beforeAll(async () => {
    const { storage, env } = await backend.open()
    // At once: the storage is empty, and both claim it.
    servers = await Promise.all([startServer({ storage }, env), startServer({ storage }, env)])
  }, 60_000)

  afterAll(async () => {
    await Promise.all(servers.map((server) => server.stop()))
    await backend.close()
  })

  test('what is pushed to one is pulled from the other at once, its tag and its referrers too', async () => {
    const [one, other] = clients()
    for (let round = 0; round < 5; round++) {
      const image = buildImage(`shared ${round}`)
      const referrer = buildArtifact(`about ${round}`, { subject: image })
      await one.push(name, image, { tags: [`v${round}`] })
      await expectManifest(other, name, `v${round}`, image)
      for (const blob of image.blobs) await expectBlob(other, name, blob)
      await other.push(name, referrer)
      expect(await one.listReferrers(name, image.digest)).toMatchObject([{ digest: referrer.digest }])
      expect(await other.listTags(name)).toContain(`v${round}`)
    }
  })

  test('what is deleted on one is 404 on the other at once, however often that has served it', async () => {
    const [one, other] = clients()
    for (let round = 0; round < 5; round++) {
      const image = buildImage(`deleted ${round}`)
      const [config] = image.blobs
      await one.push(name, image, { tags: ['gone', 'gone-too'] })
      for (let pull = 0; pull < 3; pull++) {
        for (const reference of ['gone', image.digest]) await expectManifest(other, name, reference, image)
      }
      await one.deleteManifest(name, 'gone')
      await expectNoManifest(other, name, 'gone')
      await expectManifest(other, name, 'gone-too', image)
      await one.deleteManifest(name, image.digest)
      await expectNoManifest(other, name, image.digest)
      await expectNoManifest(other, name, 'gone-too')
      expect(await other.listTags(name)).not.toContain('gone-too')
      if (config) {
        await expectBlob(other, name, config)
        await one.deleteBlob(name, config.digest)
        await expectNoBlob(other, name, config.digest)
      }
    }
  })

  test('a tag that is moved on one is seen on the other at once', async () => {
    const [one, other] = clients()
    const images = [buildImage('first'), buildImage('second')]
    for (const image of images) await one.push(name, image)
    for (let round = 0; round < 20; round++) {
      const [here, there] = round % 2 === 0 ? [one, other] : [other, one]
      for (const image of images) {
        await here.pushManifest(name, 'moving', image)
        await expectManifest(there, name, 'moving', image)
      }
    }
  })

  test('chunks of one session go to both in turn, and what is stored is read back once at most', async () => {
    const bytes = seededBytes('chunks', 12 * mebibyte)
    const blob = blobOf(bytes, 'application/octet-stream')
    const before = await uploadBytesRead()
    const started = await fetch(`http://${servers[0].registry}/v2/${name}/blobs/uploads/`, { method: 'POST' })
    let location = started.headers.get('Location') ?? ''
    const chunkBytes = mebibyte + 1
    for (let start = 0, turn = 0; start < bytes.length; start += chunkBytes, turn++) {
      const server = servers[turn % 2 === 0 ? 0 : 1]
      const body = new Uint8Array(bytes.subarray(start, start + chunkBytes))
      const headers = { 'Content-Range': `${start}-${start + body.length - 1}` }
      const answer = await fetch(new URL(location, `http://${server.registry}`), {
        method: 'PATCH',
        body,
        headers,
      })
      expect(answer.status).toBe(202)
      expect(answer.headers.get('Range')).toBe(`0-${start + body.length - 1}`)
      location = answer.headers.get('Location') ?? ''
      const other = servers[turn % 2 === 0 ? 1 : 0]
      const status = await fetch(new URL(location, `http://${other.registry}`))
      expect(status.headers.get('Range')).toBe(`0-${start + body.length - 1}`)
    }
    const finish = new URL(location, `http://${servers[1].registry}`)
    finish.searchParams.set('digest', blob.digest)
    expect((await fetch(finish, { method: 'PUT' })).status).toBe(201)
    const read = (await uploadBytesRead()) - before
    // What the storage joins by itself is not read by us at all.
    expect(read).toBe(bytes.length)
    const [one, other] = clients()
    for (const client of [one, other]) await expectBlob(client, name, blob)
  })

  async function uploadBytesRead(): Promise<number> {
    const watched = await Promise.all(servers.map((server) => server.watched()))
    return watched.reduce((sum, { uploadBytesRead }) => sum + uploadBytesRead, 0)
  }
})
