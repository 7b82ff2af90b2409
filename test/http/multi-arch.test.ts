/** Images of several platforms: an index, its children, and the orders in which they come and go. */
import { describe, expect, test } from '@jest/globals'
import { digestOf } from '../../src/oci/digest.ts'
import { mediaTypes } from '../../src/oci/media-types.ts'
import {
  bytesOf,
  descriptorOf,
  errorOf,
  imageOf,
  indexOf,
  jsonOf,
  openTestRegistry,
  pushBlob,
  putManifest,
  type TestRegistry,
} from '../support/registry.ts'

const platforms = [
  { os: 'linux', architecture: 'amd64' },
  { os: 'linux', architecture: 'arm64', variant: 'v8' },
  { os: 'windows', architecture: 'amd64', 'os.version': '10.0.20348.1' },
]

const layerOf = ({ os, architecture }: { os: string; architecture: string }) =>
  `layer for ${os}/${architecture}`
const children = platforms.map((platform) => imageOf([layerOf(platform)]))
const entries = children.map((child, position) => ({ ...entryOf(child), platform: platforms[position] }))
const index = indexOf(entries)

function entryOf(manifest: { readonly mediaType: string }) {
  return descriptorOf(bytesOf(manifest), manifest.mediaType)
}

async function pushBlobs(at: TestRegistry, name: string) {
  await pushBlob(at, name, '{}')
  for (const platform of platforms) await pushBlob(at, name, layerOf(platform))
}

async function pushByDigest(at: TestRegistry, name: string, manifest: object): Promise<number> {
  return (await putManifest(at, name, digestOf(bytesOf(manifest)), manifest)).status
}

describe('an image of several platforms', () => {
  test('is pulled by platform: the index by its tag, a child by its digest, and the blobs of that alone', async () => {
    await using at = await openTestRegistry()
    await pushBlobs(at, 'a')
    for (const child of children) expect(await pushByDigest(at, 'a', child)).toBe(201)
    expect((await putManifest(at, 'a', 'v1', index)).status).toBe(201)

    const pulled = await at.send('GET /v2/a/manifests/v1')
    expect(pulled.headers['content-type']).toBe(mediaTypes.imageIndex)
    const { manifests } = jsonOf<{ manifests: typeof entries }>(pulled)
    for (const platform of platforms) {
      const entry = manifests.find(
        (one) => one.platform?.os === platform.os && one.platform.architecture === platform.architecture,
      )
      const child = await at.send(`GET /v2/a/manifests/${entry?.digest}`)
      expect(child.headers).toMatchObject({
        'content-type': entry?.mediaType,
        'content-length': String(entry?.size),
      })
      const [layer] = jsonOf<{ layers: { digest: string }[] }>(child).layers
      expect((await at.send(`GET /v2/a/blobs/${layer?.digest}`)).body.toString()).toBe(layerOf(platform))
    }
    // Children have no tag of their own.
    expect(jsonOf(await at.send('GET /v2/a/tags/list'))).toEqual({ name: 'a', tags: ['v1'] })
  })

  test('may come in any order: the index first, a child before its sibling, another tag in between', async () => {
    await using at = await openTestRegistry()
    expect((await putManifest(at, 'a', 'v1', index)).status).toBe(201)
    for (const child of children) {
      expect(await pushByDigest(at, 'a', child)).toBe(404)
    }
    await pushBlobs(at, 'a')
    for (const [position, child] of children.entries()) {
      expect(await pushByDigest(at, 'a', child)).toBe(201)
      expect((await putManifest(at, 'a', `after-${position}`, index)).status).toBe(201)
    }
    for (const child of children) {
      expect((await at.send(`GET /v2/a/manifests/${digestOf(bytesOf(child))}`)).body).toEqual(bytesOf(child))
    }
  })

  test('may be sparse: what is there is served, what is not is a 404', async () => {
    await using at = await openTestRegistry()
    await pushBlobs(at, 'a')
    const [present, ...absent] = children
    expect(await pushByDigest(at, 'a', present ?? {})).toBe(201)
    expect((await putManifest(at, 'a', 'v1', index)).status).toBe(201)
    expect((await at.send(`GET /v2/a/manifests/${digestOf(bytesOf(present ?? {}))}`)).status).toBe(200)
    for (const child of absent) {
      expect(errorOf(await at.send(`GET /v2/a/manifests/${digestOf(bytesOf(child))}`))).toBe(
        '404 MANIFEST_UNKNOWN',
      )
    }
  })

  test('stays when a child is deleted, and the child when the index is', async () => {
    await using at = await openTestRegistry()
    await pushBlobs(at, 'a')
    for (const child of children) await pushByDigest(at, 'a', child)
    await putManifest(at, 'a', 'v1', index)
    const [first, second] = children.map((child) => digestOf(bytesOf(child)))
    expect((await at.send(`DELETE /v2/a/manifests/${first}`)).status).toBe(202)
    expect((await at.send('GET /v2/a/manifests/v1')).status).toBe(200)
    expect((await at.send(`DELETE /v2/a/manifests/${digestOf(bytesOf(index))}`)).status).toBe(202)
    expect((await at.send(`GET /v2/a/manifests/${second}`)).status).toBe(200)
    expect(jsonOf(await at.send('GET /v2/a/tags/list'))).toEqual({ name: 'a', tags: [] })
  })

  test('a child of another repository is not one of this', async () => {
    await using at = await openTestRegistry()
    await pushBlobs(at, 'a')
    for (const child of children) await pushByDigest(at, 'a', child)
    expect((await putManifest(at, 'b', 'v1', index)).status).toBe(201)
    expect((await at.send(`GET /v2/b/manifests/${entries[0]?.digest}`)).status).toBe(404)
  })

  test('a child whose layer was deleted makes the next push of its index fail', async () => {
    await using at = await openTestRegistry()
    await pushBlobs(at, 'a')
    for (const child of children) await pushByDigest(at, 'a', child)
    const layer = digestOf(Buffer.from(layerOf({ os: 'linux', architecture: 'arm64' })))
    await at.send(`DELETE /v2/a/blobs/${layer}`)
    const put = await putManifest(at, 'a', 'v1', index)
    expect(errorOf(put)).toBe('404 MANIFEST_BLOB_UNKNOWN')
    expect(put.body.toString()).toContain(layer)
  })
})

describe('an index', () => {
  test('may be empty', async () => {
    await using at = await openTestRegistry()
    expect((await putManifest(at, 'a', 'v1', indexOf([]))).status).toBe(201)
    expect(jsonOf(await at.send('GET /v2/a/manifests/v1'))).toEqual(indexOf([]))
  })

  test('may hold indexes, images of Docker and of OCI, of both algorithms, and what nobody knows', async () => {
    await using at = await openTestRegistry()
    await pushBlobs(at, 'a')
    const docker = {
      schemaVersion: 2,
      mediaType: mediaTypes.dockerManifest as string,
      config: descriptorOf('{}', 'application/vnd.docker.container.image.v1+json'),
      layers: [],
    }
    const [image = imageOf([])] = children
    const nested = indexOf([entryOf(docker), entryOf(image)])
    const sha512 = digestOf(bytesOf(image), 'sha512')
    const outer = indexOf([
      entryOf(nested),
      { ...entryOf(image), digest: sha512 },
      descriptorOf('not here', 'application/vnd.example.unknown'),
    ])
    for (const manifest of [docker, image, nested]) expect(await pushByDigest(at, 'a', manifest)).toBe(201)
    expect((await putManifest(at, 'a', sha512, image)).status).toBe(201)
    expect((await putManifest(at, 'a', 'v1', outer)).status).toBe(201)
    expect((await at.send('GET /v2/a/manifests/v1')).body).toEqual(bytesOf(outer))
  })

  test('may have a platform twice, a child twice, and annotations everywhere', async () => {
    await using at = await openTestRegistry()
    await pushBlobs(at, 'a')
    for (const child of children) await pushByDigest(at, 'a', child)
    const annotated = { ...entries[0], annotations: { 'org.example.kind': 'copy' } }
    const twice = indexOf([...entries, annotated, annotated], { annotations: { a: 'b' } })
    expect((await putManifest(at, 'a', 'v1', twice)).status).toBe(201)
  })

  test('over an index over an index, each of which lists the one below many times, is looked into once each', async () => {
    await using at = await openTestRegistry()
    let below = indexOf([])
    expect(await pushByDigest(at, 'a', below)).toBe(201)
    for (let level = 0; level < 40; level++) {
      below = indexOf(Array.from({ length: 10 }, () => entryOf(below)))
      expect(await pushByDigest(at, 'a', below)).toBe(201)
    }
    expect((await at.send(`GET /v2/a/manifests/${digestOf(bytesOf(below))}`)).status).toBe(200)
  }, 10_000)
})
