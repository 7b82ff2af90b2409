/**
 * Clients that these tests do not run, imitated request by request, in the order and with the headers that they send:
 * - Docker 29 and BuildKit by itself: Debian 12 has neither (Docker 20.10 and the BuildKit in it are real, in engines/); * - kaniko: it takes the root file system that it runs in for its own, so it needs a container to itself;
 * - stargz-snapshotter and soci-snapshotter: they need FUSE, and a containerd that has them as its snapshotter; and that
 *   proxy has them in no form that builds.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { mediaTypes } from '../../src/oci/media-types.ts'
import { startFaultyProxy, type FaultyProxy } from '../support/faulty-proxy.ts'
import {
  blobOf,
  buildArtifact,
  buildImage,
  buildIndex,
  descriptorOf,
  type TestManifest,
} from '../support/images.ts'
import { expectManifest, registryClient, type RegistryClient } from '../support/image-transfer.ts'
import { credentialsEnv, startMinio, type S3Server } from '../support/s3-servers.ts'
import { startStowage, type Stowage } from '../support/stowage.ts'

let server: Stowage
let client: RegistryClient

beforeAll(async () => {
  server = await startStowage(['--storage', 'memory'])
  client = registryClient(server.registry)
})
afterAll(() => server.stop())

describe('Docker 29 (imitated)', () => {
  const image = buildImage('docker 29', { layerSizes: [100_352] })
  const index = buildIndex([image])
  const accept = [mediaTypes.imageIndex, mediaTypes.imageManifest, mediaTypes.dockerManifestList, '*/*'].join(
    ', ',
  )

  test('pulls by tag, then by digest, and asks for the referrers of what it got', async () => {
    await client.push('docker29', index, { tags: ['v1'] })
    const headers = { Accept: accept }
    const head = await client.request('docker29/manifests/v1', { method: 'HEAD', headers })
    expect(head.status).toBe(200)
    const digest = head.headers.get('Docker-Content-Digest') ?? ''
    expect(digest).toBe(index.digest)
    for (const each of [index, image]) await expectManifest(client, 'docker29', each.digest, each)
    const referrers = await client.request(`docker29/referrers/${digest}`, { headers })
    expect([referrers.status, referrers.headers.get('Content-Type')]).toEqual([200, mediaTypes.imageIndex])
    expect(await referrers.json()).toMatchObject({ manifests: [] })
  })

  test('finds the attestations of an image by their artifact type', async () => {
    const attestation = buildArtifact('provenance', {
      subject: image,
      artifactType: 'application/vnd.in-toto+json',
    })
    await client.push('docker29', image)
    await client.push('docker29', attestation)
    const query = new URLSearchParams({ artifactType: 'application/vnd.in-toto+json' })
    const response = await client.request(`docker29/referrers/${image.digest}?${query.toString()}`)
    expect(response.headers.get('OCI-Filters-Applied')).toBe('artifactType')
    expect(await response.json()).toMatchObject({ manifests: [{ digest: attestation.digest }] })
  })

  test.each([
    'docker29/referrers/not-a-digest',
    'docker29/referrers/',
    'docker29/manifests/no-such-tag',
    `docker29/manifests/sha256:${'0'.repeat(64)}`,
    `docker29/blobs/sha256:${'0'.repeat(64)}`,
    'docker29/blobs/uploads/no-such-upload',
    'docker29/attestations/v1',
    'docker29',
    'no/such/tags/list',
    '_nothing',
  ])('reads the error of /v2/%s as JSON', async (path) => {
    const response = await client.request(path)
    expect(response.status).toBeGreaterThanOrEqual(400)
    expect(response.status).toBeLessThan(500)
    expect(response.headers.get('Content-Type')).toMatch(/^application\/json/)
    const { errors } = (await response.json()) as { errors: { code: string; message: string }[] }
    expect(errors[0]?.code).toMatch(/^[A-Z_]+$/)
  })
})

describe('BuildKit (imitated)', () => {
  /** As containerd's library pushes: a mount is tried where the blob came from another repository. */
  async function push(name: string, { blobs, children, ...manifest }: TestManifest, tag: string, from = '') {
    for (const child of children) await push(name, child, child.digest)
    for (const { digest, bytes } of blobs) {
      const known = await client.request(`${name}/blobs/${digest}`, { method: 'HEAD' })
      if (known.status === 200) continue
      expect(known.status).toBe(404)
      const query = from ? `?${new URLSearchParams({ mount: digest, from }).toString()}` : ''
      const started = await client.request(`${name}/blobs/uploads/${query}`, { method: 'POST' })
      if (started.status === 201) continue
      expect(started.status).toBe(202)
      const location = new URL(started.headers.get('Location') ?? '', started.url)
      location.searchParams.set('digest', digest)
      const headers = { 'Content-Type': 'application/octet-stream' }
      const put = await fetch(location, { method: 'PUT', body: new Uint8Array(bytes), headers })
      expect([put.status, put.headers.get('Docker-Content-Digest')]).toEqual([201, digest])
    }
    const path = `${name}/manifests/${tag}`
    expect(
      (await client.request(path, { method: 'HEAD', headers: { Accept: manifest.mediaType } })).status,
    ).toBe(404)
    const headers = { 'Content-Type': manifest.mediaType }
    const put = await client.request(path, { method: 'PUT', body: new Uint8Array(manifest.bytes), headers })
    expect([put.status, put.headers.get('Docker-Content-Digest')]).toEqual([201, manifest.digest])
  }

  test('pushes an index whose attestations are of no platform', async () => {
    const image = buildImage('buildkit')
    const attestation = {
      ...buildArtifact('attestation', { annotations: { 'vnd.docker.reference.digest': image.digest } }),
      platform: { os: 'unknown', architecture: 'unknown' },
    }
    const index = buildIndex([image, attestation])
    await push('buildkit', index, 'v1')
    for (const each of [index, image, attestation])
      await expectManifest(client, 'buildkit', each.digest, each)
  })

  test('exports a cache: an index of layers, with a config of its own type', async () => {
    const layers = buildImage('cache').blobs.slice(1)
    const config = blobOf(
      Buffer.from('{"layers":[],"records":[]}'),
      'application/vnd.buildkit.cacheconfig.v0',
    )
    const manifests = [...layers, config].map(descriptorOf)
    const bytes = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests }),
    )
    const cache = { ...blobOf(bytes, mediaTypes.imageIndex), blobs: [...layers, config], children: [] }
    await push('cache', cache, 'buildcache')
    await expectManifest(client, 'cache', 'buildcache', cache)

    const asImage = buildArtifact('cache as an image')
    await push('cache', asImage, 'image-manifest')
    await expectManifest(client, 'cache', 'image-manifest', asImage)
  })

  test('mounts what came from another repository, and pushes where a mount is answered 202', async () => {
    const image = buildImage('mounted by buildkit')
    await push('mount/from', image, 'v1')
    await push('mount/to', image, 'v1', 'mount/from')
    await push('mount/late', buildImage('nowhere'), 'v1', 'mount/from')
    await expectManifest(client, 'mount/to', 'v1', image)
  })
})

describe('BuildKit (imitated), which repeats what was answered 5xx and gives up at 429', () => {
  let minio: S3Server
  let storage: FaultyProxy
  let onS3: Stowage

  beforeAll(async () => {
    minio = await startMinio()
    await minio.createBucket('images')
    storage = await startFaultyProxy(minio)
    const bucket = [
      '--storage',
      's3',
      '--s3-bucket',
      'images',
      '--s3-path-style',
      '--s3-region',
      minio.region,
    ]
    onS3 = await startStowage([...bucket, '--s3-endpoint', storage.endpoint], credentialsEnv(minio))
  }, 600_000)
  afterAll(async () => {
    await onS3.stop()
    await storage.stop()
    await minio.stop()
  })

  test('is told 503 where the storage says that requests are too many', async () => {
    const image = buildImage('busy')
    const busy = registryClient(onS3.registry)
    await busy.push('busy', image, { tags: ['v1'] })
    storage.misbehave({ does: { answer: { status: 429, code: 'TooManyRequests' } } })
    const refused = await busy.request(`busy/blobs/${image.blobs[1]?.digest}`)
    expect(refused.status).toBe(503)
    expect(Number(refused.headers.get('Retry-After'))).toBeGreaterThan(0)
    storage.behave()
    expect((await busy.request(`busy/blobs/${image.blobs[1]?.digest}`)).status).toBe(200)
  })
})

describe('kaniko (imitated)', () => {
  test('opens an upload to see whether it may push, and deletes it', async () => {
    expect((await client.request('')).status).toBe(200)
    const opened = await client.request('kaniko/blobs/uploads/', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
    })
    expect(opened.status).toBe(202)
    const location = new URL(opened.headers.get('Location') ?? '', opened.url)
    expect((await fetch(location, { method: 'DELETE' })).status).toBe(204)
    expect((await fetch(location)).status).toBe(404)
  })
})

describe('stargz-snapshotter and soci-snapshotter (imitated)', () => {
  const image = buildImage('lazy', { layerSizes: [2_000_384] })
  const layer = image.blobs[1]
  const path = `lazy/blobs/${layer?.digest}`
  const bytes = layer?.bytes ?? Buffer.alloc(0)
  beforeAll(() => client.push('lazy', image, { tags: ['v1'] }))

  const part = async (range: string) => {
    const response = await client.request(path, {
      headers: { Range: range, 'Accept-Encoding': 'identity' },
    })
    return { response, body: Buffer.from(await response.arrayBuffer()) }
  }

  test('learn the size of a layer by HEAD, or by its first two bytes', async () => {
    const head = await client.request(path, { method: 'HEAD' })
    expect([head.status, head.headers.get('Content-Length')]).toEqual([200, `${bytes.length}`])
    const { response } = await part('bytes=0-1')
    expect([response.status, response.headers.get('Content-Range')]).toEqual([
      206,
      `bytes 0-1/${bytes.length}`,
    ])
  })

  test('read the footer, and then pieces in any order', async () => {
    const pieces = [
      [bytes.length - 51, bytes.length - 1],
      [1_500_000, 1_549_999],
      [0, 9_999],
    ] as const
    for (const [start, end] of pieces) {
      const { response, body } = await part(`bytes=${start}-${end}`)
      expect(response.status).toBe(206)
      expect(response.headers.get('Content-Encoding')).toBeNull()
      expect(body.equals(bytes.subarray(start, end + 1))).toBe(true)
    }
  })

  test('get the whole where they ask for several ranges at once, and find their pieces in it', async () => {
    const { response, body } = await part('bytes=0-99,500000-500099')
    expect(response.status).toBe(200)
    expect(body.equals(bytes)).toBe(true)
  })
})
