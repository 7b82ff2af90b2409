/** docs/GARBAGE-COLLECTION.md, DELETE: signed with a date of the storage, and never later than its answer. */
import { describe, expect, test } from '@jest/globals'
import { parseReference, parseTag } from '../../../src/oci/names.ts'
import type { Driver, RemoveLease } from '../../../src/storage/driver.ts'
import { interruptDriver, pause } from '../../support/driver-interrupt.ts'
import type { Operation } from '../../support/driver-tap.ts'
import { manualClock } from '../../support/manual-clock.ts'
import {
  descriptor,
  digestOfText,
  image,
  keys,
  keysOf,
  openProtocolRegistry,
  pushBlob,
  putManifest,
  repository,
  settled,
  type ProtocolRegistry,
  type ProtocolRegistryOptions,
} from '../../support/protocol-registry.ts'

const app = image('config', ['layer'])
const layer = digestOfText('layer')

async function openWithImage(options: ProtocolRegistryOptions = {}): Promise<ProtocolRegistry> {
  const at = await openProtocolRegistry(options)
  for (const blob of ['config', 'layer']) await pushBlob(at, blob)
  await putManifest(at, app, 'v1', ['v2'])
  at.operations()
  return at
}

const get = ({ registry }: ProtocolRegistry, reference: string) =>
  registry.manifests.get(repository, parseReference(reference))
const listTags = async ({ registry }: ProtocolRegistry) =>
  (await registry.tags.list(repository, { limit: 100 })).items

describe('a manifest that is deleted by its digest', () => {
  test('is gone at once, and its tags answer 404 and leave the listing', async () => {
    using at = await openWithImage()
    expect(await listTags(at)).toEqual(['v1', 'v2'])
    expect(await at.registry.manifests.remove(repository, app.digest)).toBe(true)
    for (const reference of [app.digest, 'v1', 'v2']) expect(await get(at, reference)).toBeUndefined()
    expect(await listTags(at)).toEqual([])
    // Their links are the collector's to remove: one could have just been moved.
    expect(await keysOf(at.storage, keys.tag('v1'))).toEqual([keys.tag('v1')])
    expect(await at.registry.manifests.remove(repository, app.digest)).toBe(false)
  })

  test('shows its tags again when it is pushed again', async () => {
    using at = await openWithImage()
    await at.registry.manifests.remove(repository, app.digest)
    await putManifest(at, app)
    expect(await listTags(at)).toEqual(['v1', 'v2'])
  })

  test('leaves the blobs, and other repositories, alone', async () => {
    using at = await openWithImage()
    await at.registry.manifests.remove(repository, app.digest)
    expect((await at.registry.blobs.stat(repository, layer))?.size).toBe(5)
    expect(await at.storage.read(keys.data(app.digest))).toBeDefined()
  })

  test('is no referrer any more; its link, which no reader follows, is left to the collection', async () => {
    using at = await openWithImage()
    const referrer = image('config', ['layer'], { subject: descriptor(app) })
    await putManifest(at, referrer)
    await at.registry.manifests.remove(repository, referrer.digest)
    expect(await at.registry.referrers.list(repository, app.digest)).toEqual([])
    await putManifest(at, referrer)
    expect(await at.registry.referrers.list(repository, app.digest)).toMatchObject([
      { digest: referrer.digest },
    ])
  })

  test('can be deleted though its bytes are damaged or gone', async () => {
    for (const bytes of [Buffer.from('damaged'), undefined]) {
      const clock = manualClock()
      using before = await openWithImage({ clock })
      const { storage } = before
      await (bytes ? storage.write(keys.data(app.digest), bytes) : storage.remove([keys.data(app.digest)]))
      using at = await openProtocolRegistry({ clock, storage })
      expect(await at.registry.manifests.remove(repository, app.digest)).toBe(true)
      expect(await get(at, app.digest)).toBeUndefined()
    }
  })
})

const removals: Readonly<
  Record<string, { key: string; remove: (at: ProtocolRegistry) => Promise<boolean> }>
> = {
  'a manifest': {
    key: keys.revision(app.digest),
    remove: ({ registry }) => registry.manifests.remove(repository, app.digest),
  },
  'a tag': {
    key: keys.tag('v1'),
    remove: ({ registry }) => registry.tags.remove(repository, parseTag('v1')),
  },
  'a blob': {
    key: keys.layer(layer),
    remove: ({ registry }) => registry.blobs.remove(repository, layer),
  },
}

describe.each(Object.entries(removals))('the removal of %s', (_what, { key, remove }) => {
  const isRemoval = (operation: Operation) => operation.verb === 'remove' && operation.key === key

  test('is leased for 60 s from a date of the storage', async () => {
    const leases: (RemoveLease | undefined)[] = []
    const skewed = manualClock(Date.UTC(2031, 0, 1))
    const note = (driver: Driver): Driver => ({
      ...driver,
      async remove(removed, options) {
        if (removed.includes(key)) leases.push(options?.lease)
        await driver.remove(removed, options)
      },
    })
    using at = await openWithImage({ clock: skewed, wrap: note })
    const { date } = await at.storage.stat('anything')
    expect(await remove(at)).toBe(true)
    expect(leases).toEqual([{ date, durationMs: 60_000 }])
  })

  test('is answered only when the storage has answered', async () => {
    using paused = pause()
    using at = await openWithImage({
      wrap: (driver) =>
        interruptDriver(driver, { at: 1, when: 'after', matches: isRemoval, interrupt: paused.interrupt }),
    })
    let isAnswered = false
    const removal = remove(at).then(() => (isAnswered = true))
    await paused.reached
    await settled()
    expect(isAnswered).toBe(false)
    paused.resume()
    await removal
  })

  test('of a server that slept is refused by the storage, and asked for anew', async () => {
    const clock = manualClock()
    using at = await openWithImage({
      clock,
      wrap: (driver) =>
        interruptDriver(driver, {
          at: 1,
          when: 'before',
          matches: isRemoval,
          interrupt: () => clock.advance(60_001),
        }),
    })
    expect(await remove(at)).toBe(true)
    expect(await keysOf(at.storage, key)).toEqual([])
    expect(await remove(at)).toBe(false)
  })
})

describe('a tag that is deleted', () => {
  test('is gone with its history, and its manifest and other tags stay', async () => {
    using at = await openWithImage()
    expect(await at.registry.tags.remove(repository, parseTag('v1'))).toBe(true)
    expect(await get(at, 'v1')).toBeUndefined()
    expect(await listTags(at)).toEqual(['v2'])
    expect((await get(at, app.digest))?.digest).toBe(app.digest)
    expect(await keysOf(at.storage, keys.tag('v1').replace('current/link', ''))).toEqual([])
  })

  test('does not take a tag of the same name with it that is pushed while its history goes', async () => {
    const newer = image('config', ['layer'], { annotations: { is: 'newer' } })
    using paused = pause()
    const isTagRemoval = ({ verb, key }: Operation) => verb === 'remove' && key === keys.tag('v1')
    using at = await openWithImage({
      wrap: (driver) =>
        interruptDriver(driver, { at: 1, when: 'after', matches: isTagRemoval, interrupt: paused.interrupt }),
    })
    const removal = at.registry.tags.remove(repository, parseTag('v1'))
    await paused.reached
    await putManifest(at, newer, 'v1')
    paused.resume()
    expect(await removal).toBe(true)
    expect((await get(at, 'v1'))?.digest).toBe(newer.digest)
  })
})
