/** What a manifest refers to: the names of R1, and R3's look at storage. */
import { describe, expect, test } from '@jest/globals'
import { parseTag } from '../../../src/oci/names.ts'
import { interruptDriver } from '../../support/driver-interrupt.ts'
import type { Operation } from '../../support/driver-tap.ts'
import {
  descriptor,
  digestOfText,
  image,
  imageIndex,
  keys,
  openProtocolRegistry,
  pushBlob,
  putManifest,
  repository,
  shortKey as short,
  type Image,
  type ProtocolRegistry,
  type ProtocolRegistryOptions,
} from '../../support/protocol-registry.ts'

const config = digestOfText('config')
const layer = digestOfText('layer')
const indexType = 'application/vnd.oci.image.index.v1+json'

async function openWithBlobs(options: ProtocolRegistryOptions = {}): Promise<ProtocolRegistry> {
  const at = await openProtocolRegistry(options)
  for (const blob of ['config', 'layer']) await pushBlob(at, blob)
  at.operations()
  return at
}

const missing = (...digests: readonly string[]) => ({
  code: 'MANIFEST_BLOB_UNKNOWN',
  status: 404,
  detail: { digests },
})

describe('R3', () => {
  const app = image('config', ['layer'])
  test.each([
    ['the link', keys.layer(layer)],
    ['the data', keys.data(layer)],
  ])(
    'refuses a manifest where %s of a layer is gone, though this server has just stored it',
    async (_what, key) => {
      using at = await openWithBlobs()
      await at.storage.remove([key])
      await expect(putManifest(at, app, 'v1')).rejects.toMatchObject(missing(layer))
      expect(await at.registry.tags.resolve(repository, parseTag('v1'))).toBeUndefined()
      expect(at.operations().some((operation) => operation.startsWith('write'))).toBe(false)
    },
  )

  test('names what is missing once, however often the manifest does', async () => {
    using at = await openWithBlobs()
    const twice = image('config', ['gone', 'layer', 'gone'])
    await expect(putManifest(at, twice)).rejects.toMatchObject(missing(digestOfText('gone')))
  })

  test('refuses an index with a child that is present and lacks a layer', async () => {
    using at = await openWithBlobs()
    await putManifest(at, app)
    await at.storage.remove([keys.layer(layer)])
    await expect(putManifest(at, imageIndex([descriptor(app)]), 'v1')).rejects.toMatchObject(missing(layer))
  })

  test('refuses an index with a child whose link is there and whose bytes are gone', async () => {
    using at = await openWithBlobs()
    await putManifest(at, app)
    await at.storage.remove([keys.data(app.digest)])
    await expect(putManifest(at, imageIndex([descriptor(app)]), 'v1')).rejects.toMatchObject(
      missing(app.digest),
    )
  })

  test('refuses an index over an index over a child that lacks its config', async () => {
    using at = await openWithBlobs()
    await putManifest(at, app)
    const inner = imageIndex([descriptor(app)])
    await putManifest(at, inner)
    await at.storage.remove([keys.data(config)])
    const outer = imageIndex([descriptor(inner, indexType)])
    await expect(putManifest(at, outer)).rejects.toMatchObject(missing(config))
  })

  test('takes an index none of whose children are here, and a subject that is not', async () => {
    using at = await openWithBlobs()
    const index = imageIndex([descriptor(app)], { subject: descriptor(image('x', [])) })
    await putManifest(at, index, 'v1')
    expect(await at.registry.tags.resolve(repository, parseTag('v1'))).toBe(index.digest)
  })

  test('does not ask for layers that may live elsewhere', async () => {
    using at = await openWithBlobs()
    const elsewhere = 'application/vnd.oci.image.layer.nondistributable.v1.tar'
    const windows = image('config', [], {
      layers: [{ mediaType: elsewhere, digest: digestOfText('elsewhere'), size: 9 }],
    })
    await putManifest(at, windows, 'v1')
    expect(await at.registry.tags.resolve(repository, parseTag('v1'))).toBe(windows.digest)
  })
})

describe('a child that R1 did not test and R3 finds', () => {
  const children: Readonly<Record<string, { child: Image; condemned: string }>> = {
    'with a layer': { child: image('config', ['layer']), condemned: keys.data(layer) },
    'with a subject': {
      child: imageIndex([], { subject: descriptor(image('x', ['y'])) }),
      condemned: keys.revision(image('x', ['y']).digest),
    },
  }

  test.each(Object.entries(children))('%s sends the push back to R1', async (_what, { child, condemned }) => {
    const type = child.bytes.includes('manifests') ? indexType : undefined
    const index = imageIndex([descriptor(child, type)])
    const isCheck = ({ verb, key }: Operation) => verb === 'stat' && key === keys.revision(child.digest)
    using at = await openWithBlobs({
      wrap: (driver) =>
        interruptDriver(driver, {
          at: 1,
          when: 'before',
          matches: isCheck,
          // Another server's push of the child comes to its end.
          async interrupt() {
            await driver.write(keys.data(child.digest), child.bytes)
            await driver.write(keys.revision(child.digest), Buffer.from(child.digest))
          },
        }),
    })
    await at.collector.done(1, [condemned])
    await putManifest(at, index, 'v1')
    const [names] = await at.collector.rescues(1)
    expect(names).toContain(condemned)
    expect(await at.registry.tags.resolve(repository, parseTag('v1'))).toBe(index.digest)
  })
})

describe('an index whose entries are no manifests', () => {
  const cacheConfig = 'application/vnd.buildkit.cacheconfig.v0'
  const entry = (content: string, mediaType: string) => ({
    mediaType,
    digest: digestOfText(content),
    size: content.length,
  })

  test('is taken, as build caches are pushed so, and names them as the blobs that they are', async () => {
    using at = await openWithBlobs()
    const cache = imageIndex([
      entry('layer', 'application/vnd.oci.image.layer.v1.tar+gzip'),
      entry('config', cacheConfig),
    ])
    await at.collector.done(1, [keys.layer(layer)])
    await putManifest(at, cache, 'cache')
    expect(await at.collector.rescues(1)).toEqual([
      [
        ...[layer, config].flatMap((digest) => [keys.layer(digest), keys.data(digest)]),
        keys.revision(cache.digest),
        keys.data(cache.digest),
        keys.tag('cache'),
      ].toSorted(),
    ])
  })

  test('is taken also where it calls a blob a manifest, and that blob is large', async () => {
    using at = await openWithBlobs()
    const large = Buffer.alloc(65 * 1024 * 1024, 'x')
    const digest = digestOfText(large.toString())
    await at.storage.write(keys.data(digest), large)
    const mediaType = 'application/vnd.oci.image.manifest.v1+json'
    const index = imageIndex([
      { mediaType, digest, size: large.length },
      { mediaType, digest: layer, size: 5 },
    ])
    await at.collector.done(1, [keys.data(digest)])
    await putManifest(at, index, 'v1')
    expect(await at.registry.tags.resolve(repository, parseTag('v1'))).toBe(index.digest)
  })
})

test('indexes that name each other many times over cost their number, not the number of ways through them', async () => {
  using at = await openWithBlobs()
  const app = image('config', ['layer'])
  await putManifest(at, app)
  let level = [app]
  for (let depth = 0; depth < 6; depth++) {
    const type = depth === 0 ? undefined : indexType
    const entries = Array.from({ length: 8 }, () => level).flatMap((below) =>
      below.map((each) => descriptor(each, type)),
    )
    level = Array.from({ length: 8 }, (_, number) =>
      imageIndex(entries, { annotations: { number: `${number}` } }),
    )
    for (const index of level) await putManifest(at, index)
  }
  const top = imageIndex(level.map((each) => descriptor(each, indexType)))
  at.operations()
  await putManifest(at, top, 'v1')
  const stats = at.operations().filter((operation) => operation.startsWith('stat'))
  expect(stats.filter((operation) => operation === `stat ${short(keys.data(layer))}`)).toHaveLength(1)
  expect(stats.length).toBeLessThan(6 * 8 * 2 + 20)
})
