/** docs/GARBAGE-COLLECTION.md, "Reads": what a client may rely on is asked back before storage is asked. */
import { describe, expect, test } from '@jest/globals'
import { parseReference } from '../../../src/oci/names.ts'
import { interruptDriver } from '../../support/driver-interrupt.ts'
import type { Operation } from '../../support/driver-tap.ts'
import { manualClock } from '../../support/manual-clock.ts'
import {
  descriptor,
  digestOfText,
  elapsedUntil,
  image,
  imageIndex,
  keys,
  keysOf,
  openProtocolRegistry,
  pushBlob,
  putManifest,
  repository,
  settled,
  shortKey as short,
  type ProtocolRegistry,
  type ProtocolRegistryOptions,
} from '../../support/protocol-registry.ts'

const app = image('config', ['layer'])
const index = imageIndex([descriptor(app)])
const config = digestOfText('config')
const layer = digestOfText('layer')
const appNames = [
  keys.revision(app.digest),
  keys.data(app.digest),
  ...[config, layer].flatMap((digest) => [keys.layer(digest), keys.data(digest)]),
].toSorted()

async function openWithImage(options: ProtocolRegistryOptions = {}): Promise<ProtocolRegistry> {
  const at = await openProtocolRegistry(options)
  for (const blob of ['config', 'layer']) await pushBlob(at, blob)
  await putManifest(at, app, 'v1')
  await putManifest(at, index, 'multi')
  at.operations()
  return at
}

/** What the poll does: the records become known. */
async function poll({ clock }: ProtocolRegistry): Promise<void> {
  clock.advance(3_000)
  await settled()
}

const get = ({ registry }: ProtocolRegistry, reference: string) =>
  registry.manifests.get(repository, parseReference(reference))

describe('with nothing condemned', () => {
  test('a pull asks for the tag, the link and the bytes, and never for records', async () => {
    using at = await openWithImage()
    await get(at, 'v1')
    await get(at, app.digest)
    await at.registry.blobs.stat(repository, layer)
    await at.registry.blobs.open(repository, layer)
    expect(at.operations()).toEqual([
      `read ${short(keys.tag('v1'))}`,
      `stat ${short(keys.revision(app.digest))}`,
      `stat ${short(keys.revision(app.digest))}`,
      `stat ${short(keys.layer(layer))}`,
      `stat ${short(keys.data(layer))}`,
      `stat ${short(keys.layer(layer))}`,
      `stream ${short(keys.data(layer))}`,
    ])
  })

  test('the poll is one HEAD every three seconds', async () => {
    using at = await openWithImage()
    for (let second = 0; second < 30; second++) {
      at.clock.advance(1_000)
      await settled()
    }
    expect(at.operations()).toEqual(Array.from({ length: 10 }, () => 'stat gc/runs/0000000001/owner'))
  })
})

describe('with something else condemned', () => {
  test('a pull costs lookups in memory', async () => {
    using at = await openWithImage()
    await at.collector.done(1, [keys.data(digestOfText('something else'))])
    await poll(at)
    at.operations()
    await get(at, 'v1')
    await at.registry.blobs.stat(repository, layer)
    expect(at.operations()).toEqual([
      `read ${short(keys.tag('v1'))}`,
      `stat ${short(keys.revision(app.digest))}`,
      `stat ${short(keys.layer(layer))}`,
      `stat ${short(keys.data(layer))}`,
    ])
    expect(await keysOf(at.storage, 'stowage/gc/rescues/')).toEqual([])
  })
})

describe('what is condemned is asked back before storage is asked', () => {
  test.each([keys.layer(layer), keys.data(layer)])('by HEAD of a blob, where %s is', async (condemned) => {
    using at = await openWithImage()
    await at.collector.done(1, [condemned])
    await poll(at)
    at.operations()
    expect((await at.registry.blobs.stat(repository, layer))?.size).toBe(5)
    expect(await at.collector.rescues(1)).toEqual([[keys.data(layer), keys.layer(layer)].toSorted()])
    const operations = at.operations()
    expect(operations[0]).toBe('write gc/rescues/0000000001/ID')
    expect(operations[1]).toBe('stat gc/runs/0000000002/owner')
    expect(operations.slice(-2)).toEqual([
      `stat ${short(keys.layer(layer))}`,
      `stat ${short(keys.data(layer))}`,
    ])
  })

  test.each([keys.revision(app.digest), keys.data(app.digest), keys.layer(config), keys.data(layer)])(
    'by a manifest’s digest, where %s is',
    async (condemned) => {
      using at = await openWithImage()
      await at.collector.done(1, [condemned])
      await poll(at)
      at.operations()
      expect((await get(at, app.digest))?.digest).toBe(app.digest)
      expect(await at.collector.rescues(1)).toEqual([appNames])
      const operations = at.operations()
      expect(operations[0]).toBe('write gc/rescues/0000000001/ID')
      expect(operations.at(-1)).toBe(`stat ${short(keys.revision(app.digest))}`)
    },
  )

  test('by tag: the revision is named, and not the tag, which may expire', async () => {
    using at = await openWithImage()
    await at.collector.done(1, [keys.tag('v1'), keys.revision(app.digest)])
    await poll(at)
    expect((await get(at, 'v1'))?.digest).toBe(app.digest)
    expect(await at.collector.rescues(1)).toEqual([appNames])
  })

  test('by tag: a tag that alone is condemned is no reason for a rescue', async () => {
    using at = await openWithImage()
    await at.collector.done(1, [keys.tag('v1')])
    await poll(at)
    expect((await get(at, 'v1'))?.digest).toBe(app.digest)
    expect(await keysOf(at.storage, 'stowage/gc/rescues/')).toEqual([])
  })

  test('for an index: all that its children need, too', async () => {
    using at = await openWithImage()
    await at.collector.done(1, [keys.data(layer)])
    await poll(at)
    expect((await get(at, 'multi'))?.digest).toBe(index.digest)
    expect(await at.collector.rescues(1)).toEqual([
      [...appNames, keys.revision(index.digest), keys.data(index.digest)].toSorted(),
    ])
  })

  test('once a generation: the same read again writes nothing', async () => {
    using at = await openWithImage()
    await at.collector.done(1, [keys.data(layer)])
    await poll(at)
    await get(at, 'v1')
    const stored = await keysOf(at.storage)
    await get(at, 'v1')
    expect(await keysOf(at.storage)).toEqual(stored)
  })

  test('a read never writes a link again', async () => {
    using at = await openWithImage()
    await at.collector.done(1, appNames)
    await poll(at)
    const before = await at.storage.stat(keys.revision(app.digest))
    await get(at, 'v1')
    await at.registry.blobs.stat(repository, layer)
    const after = await at.storage.stat(keys.revision(app.digest))
    expect(after.object?.version).toBe(before.object?.version)
    expect(at.operations().filter((operation) => /^write (?!gc\/rescues)/.test(operation))).toEqual([])
  })

  test('what is gone is 404, whatever was asked back', async () => {
    using at = await openWithImage()
    await at.collector.done(1, [keys.data(layer), keys.revision(app.digest)])
    await at.storage.remove([keys.data(layer), keys.layer(layer), keys.revision(app.digest)])
    await poll(at)
    expect(await at.registry.blobs.stat(repository, layer)).toBeUndefined()
    expect(await get(at, 'v1')).toBeUndefined()
    expect(await get(at, app.digest)).toBeUndefined()
  })

  test('a read waits for an open round that names it, and answers what the round left', async () => {
    using at = await openWithImage()
    await at.collector.done(1, [keys.data(layer)])
    await at.collector.owner(2)
    await at.collector.sweeping(2, 1, [keys.data(layer)])
    await poll(at)
    const head = at.registry.blobs.stat(repository, layer)
    at.clock.advance(20_000)
    await settled()
    await at.storage.remove([keys.data(layer)])
    await at.collector.swept(2, 1)
    await elapsedUntil(at.clock, head)
    expect(await head).toBeUndefined()
  })

  test('a digest that is no manifest is 404, also where it is the condemned data of a layer', async () => {
    using at = await openWithImage()
    await at.collector.done(1, [keys.data(layer)])
    await poll(at)
    expect(await get(at, layer)).toBeUndefined()
  })
})

describe('the age of the records', () => {
  test('records older than ten seconds are read before an answer leaves', async () => {
    using at = await openWithImage({ wrap: (driver) => driver })
    // As if the process had slept: the time moves, and nobody polls before the read.
    at.clock.advance(10_000)
    at.operations()
    expect((await at.registry.blobs.stat(repository, layer))?.size).toBe(5)
    expect(at.operations()).toContain('stat gc/runs/0000000001/owner')
  })

  test('what was condemned while the server slept is asked back', async () => {
    using at = await openWithImage()
    await at.collector.done(1, [keys.data(layer)])
    at.clock.advance(10_000)
    await at.registry.blobs.stat(repository, layer)
    expect(await at.collector.rescues(1)).toHaveLength(1)
  })

  test('a read of storage that takes longer than ten seconds is followed by one of the records', async () => {
    const clock = manualClock()
    const isHead = ({ verb, key }: Operation) => verb === 'stat' && key === keys.data(layer)
    let isSlow = false
    using at = await openWithImage({
      clock,
      wrap: (driver) =>
        interruptDriver(driver, {
          at: 1,
          when: 'before',
          matches: (operation) => isSlow && isHead(operation),
          interrupt: () => clock.advance(12_000),
        }),
    })
    isSlow = true
    at.operations()
    expect((await at.registry.blobs.stat(repository, layer))?.size).toBe(5)
    const operations = at.operations()
    expect(operations.lastIndexOf('stat gc/runs/0000000001/owner')).toBeGreaterThan(
      operations.indexOf(`stat ${short(keys.data(layer))}`),
    )
  })

  test('a storage that always takes longer than ten seconds still answers', async () => {
    const clock = manualClock()
    let isSlow = false
    using at = await openWithImage({
      clock,
      wrap: (driver) => ({
        ...driver,
        async stat(key, options) {
          const answer = await driver.stat(key, options)
          if (isSlow) clock.advance(12_000)
          return answer
        },
      }),
    })
    isSlow = true
    expect((await at.registry.blobs.stat(repository, layer))?.size).toBe(5)
  })

  test('a server that cannot read the records answers no HEAD, and says so by an error', async () => {
    let isAway = false
    using at = await openWithImage({
      wrap: (driver) => ({
        ...driver,
        async stat(key, options) {
          if (isAway && key.startsWith('stowage/gc/runs/')) throw new Error('the storage is away')
          return driver.stat(key, options)
        },
      }),
    })
    isAway = true
    expect((await at.registry.blobs.stat(repository, layer))?.size).toBe(5)
    at.clock.advance(10_000)
    await settled()
    await expect(at.registry.blobs.stat(repository, layer)).rejects.toThrow('the storage is away')
    expect(at.lines.some((line) => line.includes('could not be read'))).toBe(true)
    isAway = false
    expect((await at.registry.blobs.stat(repository, layer))?.size).toBe(5)
  })
})
