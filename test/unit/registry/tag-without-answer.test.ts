/** docs/GARBAGE-COLLECTION.md, R4: a tag's write that got no answer is waited out before anyone is answered. */
import { expect, test } from '@jest/globals'
import { parseTag } from '../../../src/oci/names.ts'
import { StorageUnavailable, type Driver } from '../../../src/storage/driver.ts'
import {
  image,
  keys,
  openProtocolRegistry,
  pushBlob,
  putManifest,
  repository,
} from '../../support/protocol-registry.ts'

const first = image('config', ['layer'])
const second = image('config', ['other layer'])

/** The first write of the tag gets no answer; `lands` says whether it takes effect, at the end of its lease. */
async function openWithLostAnswer(lands: boolean) {
  let isLost = false
  const waited: number[] = []
  const at = await openProtocolRegistry({
    wrap: (driver): Driver => ({
      ...driver,
      async write(key, bytes, options) {
        if (key !== keys.tag('v1') || isLost) return driver.write(key, bytes, options)
        isLost = true
        const { date } = await driver.stat(key)
        const land = async () => {
          if (lands) await driver.write(key, bytes, options)
        }
        at.clock.advance(50_000)
        await land()
        waited.push(date)
        throw new StorageUnavailable('no answer', { mayStillHappen: true })
      },
    }),
  })
  for (const blob of ['config', 'layer', 'other layer']) await pushBlob(at, blob)
  return { at, waited }
}

/** Moves the clock whenever somebody sleeps, until `pushed` has ended. */
async function ended(at: Awaited<ReturnType<typeof openProtocolRegistry>>, pushed: Promise<void>) {
  let outcome: 'pushed' | Error | undefined
  pushed.then(
    () => (outcome = 'pushed'),
    (error: Error) => (outcome = error),
  )
  while (outcome === undefined) {
    at.clock.advance(500)
    await new Promise((resolve) => setImmediate(resolve))
  }
  return outcome
}

test('one that took effect is a success, told once it can no longer take effect', async () => {
  const { at, waited } = await openWithLostAnswer(true)
  using _ = at
  expect(await ended(at, putManifest(at, first, 'v1'))).toBe('pushed')
  expect(await at.registry.tags.resolve(repository, parseTag('v1'))).toBe(first.digest)
  expect(at.clock.now() - (waited[0] ?? 0)).toBeGreaterThan(60_000 + 30_000)
})

test('one that did not is an error, after which the next tag stays', async () => {
  const { at, waited } = await openWithLostAnswer(false)
  using _ = at
  expect(await ended(at, putManifest(at, first, 'v1'))).toBeInstanceOf(StorageUnavailable)
  expect(at.clock.now() - (waited[0] ?? 0)).toBeGreaterThan(60_000 + 30_000)
  await putManifest(at, second, 'v1')
  expect(await at.registry.tags.resolve(repository, parseTag('v1'))).toBe(second.digest)
})

test('one that the storage refused is not waited for', async () => {
  using at = await openProtocolRegistry({
    wrap: (driver): Driver => ({
      ...driver,
      async write(key, bytes, options) {
        if (key === keys.tag('v1')) throw new StorageUnavailable('slow down')
        return driver.write(key, bytes, options)
      },
    }),
  })
  for (const blob of ['config', 'layer']) await pushBlob(at, blob)
  const before = at.clock.now()
  await expect(putManifest(at, first, 'v1')).rejects.toThrow('slow down')
  expect(at.clock.now()).toBe(before)
})
