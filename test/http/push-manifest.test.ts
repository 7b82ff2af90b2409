import { describe, expect, test } from '@jest/globals'
import { digestOf } from '../../src/oci/digest.ts'
import { mediaTypes } from '../../src/oci/media-types.ts'
import { roots } from '../../src/registry/layout.ts'
import {
  bytesOf,
  descriptorOf,
  errorOf,
  imageOf,
  indexOf,
  jsonOf,
  keysOf,
  layerType,
  openTestRegistry,
  pushBlob,
  putManifest,
  type TestRegistry,
} from '../support/registry.ts'

/** A registry whose repository `a` has the config `{}` and the layer `layer`. */
async function openWithBlobs(options: Parameters<typeof openTestRegistry>[0] = {}): Promise<TestRegistry> {
  const at = await openTestRegistry(options)
  for (const blob of ['{}', 'layer']) await pushBlob(at, 'a', blob)
  return at
}

const image = imageOf(['layer'])
const absent = descriptorOf('absent', layerType)

describe('end-7: a push', () => {
  test('by tag says where the manifest is, and its digest', async () => {
    await using at = await openWithBlobs()
    const digest = digestOf(bytesOf(image))
    const put = await putManifest(at, 'a', 'v1', image)
    expect(put.status).toBe(201)
    expect(put.headers).toMatchObject({
      location: `/v2/a/manifests/${digest}`,
      'docker-content-digest': digest,
      'content-length': '0',
    })
    expect(put.headers).not.toHaveProperty('oci-subject')
    expect(put.headers).not.toHaveProperty('oci-tag')
    expect(put.headers).not.toHaveProperty('warning')
    expect((await at.send(`GET ${put.headers.location}`)).body).toEqual(bytesOf(image))
  })

  test.each(['sha256', 'sha512'] as const)('by digest, %s, makes no tag', async (algorithm) => {
    await using at = await openWithBlobs()
    const digest = digestOf(bytesOf(image), algorithm)
    expect(await putManifest(at, 'a', digest, image)).toMatchObject({
      status: 201,
      headers: { location: `/v2/a/manifests/${digest}`, 'docker-content-digest': digest },
    })
    expect(jsonOf(await at.send('GET /v2/a/tags/list'))).toEqual({ name: 'a', tags: [] })
  })

  test('by a digest that the bytes do not have is refused', async () => {
    await using at = await openWithBlobs()
    const digest = digestOf(Buffer.from('other'))
    expect(errorOf(await putManifest(at, 'a', digest, image))).toBe('400 DIGEST_INVALID')
    expect((await at.send(`HEAD /v2/a/manifests/${digest}`)).status).toBe(404)
  })

  test('again by the same tag moves the tag; the older manifest stays', async () => {
    await using at = await openWithBlobs()
    const older = digestOf(bytesOf(image))
    const newer = imageOf(['layer'], { annotations: { version: '2' } })
    for (const manifest of [image, newer, newer])
      expect((await putManifest(at, 'a', 'v1', manifest)).status).toBe(201)
    expect((await at.send('GET /v2/a/manifests/v1')).body).toEqual(bytesOf(newer))
    expect((await at.send(`GET /v2/a/manifests/${older}`)).body).toEqual(bytesOf(image))
  })
})

describe('end-7: what a manifest refers to', () => {
  test('refuses a manifest whose layer is unknown', async () => {
    await using at = await openWithBlobs()
    const put = await putManifest(at, 'a', 'v1', imageOf(['layer', 'absent']))
    expect(errorOf(put)).toBe('404 MANIFEST_BLOB_UNKNOWN')
    expect(jsonOf<{ errors: unknown[] }>(put).errors[0]).toMatchObject({
      detail: { digests: [absent.digest] },
    })
    expect((await at.send('HEAD /v2/a/manifests/v1')).status).toBe(404)
    expect(
      errorOf(await at.send(`GET /v2/a/manifests/${digestOf(bytesOf(imageOf(['layer', 'absent'])))}`)),
    ).toBe('404 MANIFEST_UNKNOWN')
  })

  test('refuses a manifest whose config is unknown', async () => {
    await using at = await openTestRegistry()
    await pushBlob(at, 'a', 'layer')
    expect(errorOf(await putManifest(at, 'a', 'v1', image))).toBe('404 MANIFEST_BLOB_UNKNOWN')
  })

  test('refuses blobs that only another repository has', async () => {
    await using at = await openWithBlobs()
    expect(errorOf(await putManifest(at, 'b', 'v1', image))).toBe('404 MANIFEST_BLOB_UNKNOWN')
    expect(errorOf(await at.send('GET /v2/b/tags/list'))).toBe('404 NAME_UNKNOWN')
  })

  test('takes it once they are there', async () => {
    await using at = await openTestRegistry()
    for (const blob of ['layer', '{}']) {
      expect(errorOf(await putManifest(at, 'a', 'v1', image))).toBe('404 MANIFEST_BLOB_UNKNOWN')
      await pushBlob(at, 'a', blob)
    }
    expect((await putManifest(at, 'a', 'v1', image)).status).toBe(201)
  })

  test('takes a manifest without layers', async () => {
    await using at = await openWithBlobs()
    for (const layers of [[], null, undefined]) {
      expect((await putManifest(at, 'a', 'v1', { ...image, layers })).status).toBe(201)
    }
  })

  test.each([
    'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
    'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  ])('takes a layer that lives elsewhere: %s', async (mediaType) => {
    await using at = await openWithBlobs()
    const foreign = { ...absent, mediaType, urls: ['https://elsewhere.example/layer'] }
    expect((await putManifest(at, 'a', 'v1', { ...image, layers: [foreign] })).status).toBe(201)
  })

  test('takes blobs of other algorithms', async () => {
    await using at = await openWithBlobs()
    await pushBlob(at, 'a', 'layer', 'sha512')
    const manifest = { ...image, layers: [descriptorOf('layer', layerType, 'sha512')] }
    expect((await putManifest(at, 'a', 'v1', manifest)).status).toBe(201)
  })

  test('takes a subject that is not there, and says that it looked at it', async () => {
    await using at = await openWithBlobs()
    const subject = descriptorOf('absent', mediaTypes.imageManifest)
    const put = await putManifest(at, 'a', 'v1', { ...image, subject })
    expect(put).toMatchObject({ status: 201, headers: { 'oci-subject': subject.digest } })
  })

  test('an image without its layers is refused by default, and taken where that was allowed', async () => {
    for (const acceptsSparseImages of [false, true]) {
      await using at = await openTestRegistry({ registry: { acceptsSparseImages } })
      const put = await putManifest(at, 'a', 'v1', image)
      expect(put.status).toBe(acceptsSparseImages ? 201 : 404)
      expect((await at.send('GET /v2/a/manifests/v1')).status).toBe(acceptsSparseImages ? 200 : 404)
    }
  })
})

describe('end-7: media types', () => {
  const put = ({ send }: TestRegistry, manifest: object, type: string | undefined) =>
    send('PUT /v2/a/manifests/v1', {
      body: bytesOf(manifest),
      headers: type === undefined ? {} : { 'Content-Type': type },
    })
  const { mediaType: _, ...untyped } = image

  test.each([
    ['with parameters', image, `${mediaTypes.imageManifest}; charset=utf-8`],
    ['without Content-Type', image, undefined],
    ['without mediaType', untyped, mediaTypes.imageManifest],
    ['without either', untyped, undefined],
  ])('an image %s is one, and comes back with its type alone', async (_name, manifest, type) => {
    await using at = await openWithBlobs()
    expect((await put(at, manifest, type)).status).toBe(201)
    const { headers, body } = await at.send('GET /v2/a/manifests/v1')
    expect(headers['content-type']).toBe(mediaTypes.imageManifest)
    expect(body).toEqual(bytesOf(manifest))
  })

  test('a manifest without mediaType is stored with a Warning', async () => {
    await using at = await openWithBlobs()
    const { headers } = await put(at, untyped, mediaTypes.imageManifest)
    expect(headers.warning).toMatch(/^299 - "[^"\\]+"$/)
    expect(Buffer.byteLength(headers.warning ?? '')).toBeLessThan(4096)
  })

  test('a Content-Type that the manifest contradicts is refused', async () => {
    await using at = await openWithBlobs()
    for (const [manifest, type] of [
      [image, mediaTypes.imageIndex],
      [image, mediaTypes.dockerManifest],
      [image, 'application/json'],
      [untyped, mediaTypes.imageIndex],
      [indexOf([]), mediaTypes.imageManifest],
    ] as const) {
      expect(errorOf(await put(at, manifest, type))).toBe('400 MANIFEST_INVALID')
    }
    expect((await at.send('HEAD /v2/a/manifests/v1')).status).toBe(404)
  })

  test('a type that nobody knows is refused, also where both say it', async () => {
    await using at = await openWithBlobs()
    const mediaType = 'application/vnd.docker.distribution.manifest.v1+prettyjws'
    expect(errorOf(await put(at, { ...image, mediaType }, mediaType))).toBe('400 MANIFEST_INVALID')
    expect(errorOf(await put(at, { ...image, mediaType: '__proto__' }, '__proto__'))).toBe(
      '400 MANIFEST_INVALID',
    )
  })

  test("Docker's schema 2 and its lists are stored as they are", async () => {
    await using at = await openWithBlobs()
    const schema2 = {
      schemaVersion: 2,
      mediaType: mediaTypes.dockerManifest,
      config: descriptorOf('{}', 'application/vnd.docker.container.image.v1+json'),
      layers: [descriptorOf('layer', 'application/vnd.docker.image.rootfs.diff.tar.gzip')],
    }
    const list = {
      schemaVersion: 2,
      mediaType: mediaTypes.dockerManifestList,
      manifests: [
        {
          ...descriptorOf(JSON.stringify(schema2), mediaTypes.dockerManifest),
          platform: { architecture: 'amd64', os: 'linux' },
        },
      ],
    }
    for (const [tag, manifest] of [
      ['image', schema2],
      ['list', list],
    ] as const) {
      expect((await putManifest(at, 'a', tag, manifest)).status).toBe(201)
      const { headers, body } = await at.send(`GET /v2/a/manifests/${tag}`)
      expect(headers['content-type']).toBe(manifest.mediaType)
      expect(body).toEqual(bytesOf(manifest))
    }
    expect(errorOf(await putManifest(at, 'b', 'image', schema2))).toBe('404 MANIFEST_BLOB_UNKNOWN')
  })

  test('an artifact manifest, withdrawn as it is, is stored with a Warning', async () => {
    await using at = await openWithBlobs()
    const subject = descriptorOf('absent', mediaTypes.imageManifest)
    const artifact = {
      mediaType: mediaTypes.artifactManifest,
      artifactType: 'application/example',
      blobs: [descriptorOf('layer', 'text/plain')],
      subject,
    }
    const answer = await putManifest(at, 'a', 'v1', artifact)
    expect(answer).toMatchObject({ status: 201, headers: { 'oci-subject': subject.digest } })
    expect(answer.headers.warning).toMatch(/^299 - "[^"\\]+"$/)
    expect(errorOf(await putManifest(at, 'a', 'v1', { ...artifact, blobs: [absent] }))).toBe(
      '404 MANIFEST_BLOB_UNKNOWN',
    )
  })

  test('an artifact is an image with artifactType and the empty config', async () => {
    await using at = await openWithBlobs()
    const config = { ...descriptorOf('{}', 'application/vnd.oci.empty.v1+json'), data: 'e30=' }
    const artifact = { ...image, artifactType: 'application/example', config, layers: [config] }
    const answer = await putManifest(at, 'a', 'v1', artifact)
    expect(answer.status).toBe(201)
    expect(answer.headers).not.toHaveProperty('warning')
  })
})

describe('end-7: what is no manifest', () => {
  const zero = `sha256:${'0'.repeat(64)}`
  test.each<[string, unknown]>([
    ['nothing', ''],
    ['no JSON', '{'],
    ['not UTF-8', Buffer.from('{"schemaVersion":2,"a":"\xff"}', 'latin1')],
    ['a byte order mark and no document', '\ufeff'],
    ['null', null],
    ['a number', 2],
    ['an array', [image]],
    ['an empty object', {}],
    ['schema 1', { schemaVersion: 1, name: 'a', tag: 'v1', fsLayers: [] }],
    ['schemaVersion as text', { ...image, schemaVersion: '2' }],
    ['no schemaVersion', { ...image, schemaVersion: undefined }],
    ['no config', { ...image, config: undefined }],
    ['layers that are no list', { ...image, layers: {} }],
    ['a layer that is null', { ...image, layers: [null] }],
    ['a digest that is none', { ...image, layers: [{ ...absent, digest: 'sha256:../../x' }] }],
    [
      'a digest of an unknown algorithm',
      { ...image, layers: [{ ...absent, digest: `md5:${'0'.repeat(32)}` }] },
    ],
    ['a digest in capitals', { ...image, config: { ...image.config, digest: zero.replaceAll('0', 'A') } }],
    ['a negative size', { ...image, layers: [{ ...absent, size: -1 }] }],
    ['a size in parts', { ...image, layers: [{ ...absent, size: 1.5 }] }],
    ['a size beyond reason', { ...image, layers: [{ ...absent, size: 1e300 }] }],
    ['a descriptor without mediaType', { ...image, layers: [{ digest: zero, size: 1 }] }],
    ['annotations that are no text', { ...image, annotations: { a: 1 } }],
    ['a subject that is none', { ...image, subject: { digest: zero } }],
    ['an image that is an index, too', { ...image, manifests: [] }],
    ['an index that is an image, too', { ...indexOf([]), config: image.config }],
    ['an index that has layers, too', { ...indexOf([]), layers: image.layers }],
    ['an index without its list', indexOf([], { manifests: undefined })],
    ['an index with a child that is none', indexOf([{ digest: zero }])],
  ])('refuses %s', async (_name, document) => {
    await using at = await openWithBlobs()
    const body =
      typeof document === 'string' || Buffer.isBuffer(document) ? document : JSON.stringify(document)
    const mediaType = (document as { mediaType?: string } | null)?.mediaType
    const answer = await at.send('PUT /v2/a/manifests/v1', {
      body,
      headers: mediaType === undefined ? {} : { 'Content-Type': mediaType },
    })
    expect(errorOf(answer)).toBe('400 MANIFEST_INVALID')
    expect((await keysOf(at.driver, roots.distribution)).filter((key) => key.includes('_manifests'))).toEqual(
      [],
    )
  })
})

describe('end-7: sizes', () => {
  const padded = (size: number) => {
    const bytes = JSON.stringify(image)
    return Buffer.from(bytes + ' '.repeat(size - bytes.length))
  }
  async function* inPieces(bytes: Buffer) {
    for (let at = 0; at < bytes.length; at += 1_000_000) yield bytes.subarray(at, at + 1_000_000)
  }

  test('takes 4 MiB by default, and not a byte more', async () => {
    await using at = await openWithBlobs()
    const largest = padded(4 * 2 ** 20)
    expect((await putManifest(at, 'a', 'v1', largest)).status).toBe(201)
    expect((await at.send('GET /v2/a/manifests/v1')).body.equals(largest)).toBe(true)
    const tooLarge = Buffer.concat([largest, Buffer.from(' ')])
    const headers = { 'Content-Type': mediaTypes.imageManifest }
    for (const body of [tooLarge, inPieces(tooLarge)]) {
      const answer = await at.send('PUT /v2/a/manifests/v2', { body, headers })
      expect(errorOf(answer)).toBe('413 SIZE_INVALID')
    }
    expect((await at.send('HEAD /v2/a/manifests/v2')).status).toBe(404)
  })

  test('takes what its settings say', async () => {
    await using at = await openWithBlobs({ registry: { manifestMaxBytes: 1024 } })
    expect((await putManifest(at, 'a', 'v1', padded(1024))).status).toBe(201)
    expect(errorOf(await putManifest(at, 'a', 'v1', padded(1025)))).toBe('413 SIZE_INVALID')
  })
})

describe('end-7b: several tags at once', () => {
  const digest = digestOf(bytesOf(image))
  const put = ({ send }: TestRegistry, reference: string, tags: readonly string[]) =>
    send(
      `PUT /v2/a/manifests/${reference}?${tags.map((tag) => `tag=${encodeURIComponent(tag)}`).join('&')}`,
      {
        body: bytesOf(image),
        headers: { 'Content-Type': mediaTypes.imageManifest },
      },
    )

  test('are set, and each is named in OCI-Tag', async () => {
    await using at = await openWithBlobs()
    const tags = ['1.2.3', '1.2', '1', 'latest']
    const answer = await put(at, digest, tags)
    expect(answer.status).toBe(201)
    expect(answer.headers['oci-tag']).toBe(tags.join(', '))
    expect(answer.headers['docker-content-digest']).toBe(digest)
    expect(jsonOf(await at.send('GET /v2/a/tags/list'))).toEqual({ name: 'a', tags: tags.toSorted() })
    for (const tag of tags) expect((await at.send(`GET /v2/a/manifests/${tag}`)).body).toEqual(bytesOf(image))
  })

  test('may be a hundred, and stand beside a tag as the reference', async () => {
    await using at = await openWithBlobs()
    const tags = Array.from({ length: 100 }, (_, index) => `t${index}`)
    expect((await put(at, 'own', tags)).headers['oci-tag']).toBe(tags.join(', '))
    expect(jsonOf<{ tags: string[] }>(await at.send('GET /v2/a/tags/list')).tags).toHaveLength(101)
  })

  test('beyond a hundred are a 414, and none of them is set', async () => {
    await using at = await openWithBlobs()
    const answer = await put(
      at,
      digest,
      Array.from({ length: 101 }, (_, index) => `t${index}`),
    )
    expect(errorOf(answer)).toBe('414 UNSUPPORTED')
    expect(jsonOf(await at.send('GET /v2/a/tags/list'))).toEqual({ name: 'a', tags: [] })
  })

  test('one of which is none are refused, and none of them is set', async () => {
    await using at = await openWithBlobs()
    for (const bad of ['', '-', '.x', 'a b', 'a/b', 'x'.repeat(129), 'a\r\nb: c', 'ä']) {
      expect(errorOf(await put(at, digest, ['good', bad]))).toBe('400 TAG_INVALID')
    }
    expect(jsonOf(await at.send('GET /v2/a/tags/list'))).toEqual({ name: 'a', tags: [] })
  })
})
