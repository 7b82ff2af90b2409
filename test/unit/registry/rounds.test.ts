/** docs/GARBAGE-COLLECTION.md, R2: who needs a key of a round of deletes waits until the round is closed. */
import { describe, expect, test } from '@jest/globals'
import { parseTag } from '../../../src/oci/names.ts'
import {
  digestOfText,
  elapsedUntil,
  image,
  keys,
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
const condemned = [keys.layer(layer), keys.data(layer)]

/** An image's blobs, its layer condemned by run 1, and run 2 in a round that deletes it. */
async function openInRound(options: ProtocolRegistryOptions = {}): Promise<ProtocolRegistry> {
  const at = await openProtocolRegistry(options)
  for (const blob of ['config', 'layer']) await pushBlob(at, blob)
  await at.collector.done(1, condemned)
  await at.collector.owner(2)
  await at.collector.sweeping(2, 1, condemned)
  at.operations()
  return at
}

test('a push waits until the round is swept, and finds what is left', async () => {
  using at = await openInRound()
  const push = putManifest(at, app, 'v1')
  at.clock.advance(10_000)
  await settled()
  await at.collector.swept(2, 1)
  expect(await elapsedUntil(at.clock, push)).toBeLessThanOrEqual(500)
  expect(await at.registry.tags.resolve(repository, parseTag('v1'))).toBe(app.digest)
})

test('what the round has deleted meanwhile is missing: 404 MANIFEST_BLOB_UNKNOWN', async () => {
  using at = await openInRound()
  const push = putManifest(at, app, 'v1')
  await settled()
  await at.storage.remove(condemned)
  await at.collector.swept(2, 1)
  const [outcome] = await Promise.allSettled([push, elapsedUntil(at.clock, push)])
  expect(outcome).toMatchObject({
    reason: { code: 'MANIFEST_BLOB_UNKNOWN', status: 404, detail: { digests: [layer] } },
  })
  expect(await at.registry.tags.resolve(repository, parseTag('v1'))).toBeUndefined()
})

test('a blob whose bytes are here is stored again after the round that deleted it', async () => {
  using at = await openInRound()
  const push = pushBlob(at, 'layer')
  await settled()
  await at.storage.remove(condemned)
  await at.collector.swept(2, 1)
  await elapsedUntil(at.clock, push)
  await push
  expect((await at.storage.read(keys.data(layer)))?.toString()).toBe('layer')
  expect((await at.storage.read(keys.layer(layer)))?.toString()).toBe(layer)
})

test('after the death of its collector a round is closed by the storage’s own time', async () => {
  using at = await openInRound()
  at.clock.advance(89_000)
  await settled()
  const push = putManifest(at, app, 'v1')
  const elapsed = await elapsedUntil(at.clock, push)
  await push
  // Open up to its lease of 90 s, the last millisecond included.
  expect(elapsed).toBe(1_500)
})

test('the lease that counts is the one that the round names', async () => {
  using at = await openProtocolRegistry()
  for (const blob of ['config', 'layer']) await pushBlob(at, blob)
  await at.collector.done(1, condemned)
  await at.collector.owner(2)
  await at.collector.sweeping(2, 1, condemned, 5_000)
  const push = putManifest(at, app)
  expect(await elapsedUntil(at.clock, push)).toBe(5_500)
  await push
})

test('one request waits 30 s at most: then 503 with Retry-After, and nothing was written', async () => {
  using at = await openInRound()
  const push = putManifest(at, app, 'v1')
  const [outcome, elapsed] = await Promise.allSettled([push, elapsedUntil(at.clock, push)])
  expect(outcome).toMatchObject({
    reason: { code: 'UNAVAILABLE', status: 503, headers: { 'Retry-After': '30' } },
  })
  expect(elapsed).toMatchObject({ value: 30_500 })
  expect(at.operations().filter((operation) => operation.startsWith('write'))).toEqual([
    'write gc/rescues/0000000001/ID',
  ])
})

test('the rescue is there before the round is looked for, so that what it has not deleted yet is spared', async () => {
  using at = await openInRound()
  const push = putManifest(at, app, 'v1')
  await settled()
  expect(await at.collector.rescues(1)).toHaveLength(1)
  await at.collector.swept(2, 1)
  await elapsedUntil(at.clock, push)
  await push
  const operations = at.operations()
  expect(operations.indexOf('write gc/rescues/0000000001/ID')).toBeLessThan(
    operations.indexOf('list gc/runs/'),
  )
})

describe('a push waits for', () => {
  test('several rounds, one after the other', async () => {
    using at = await openInRound()
    const push = putManifest(at, app)
    await settled()
    await at.collector.sweeping(2, 2, ['another/key'])
    await at.collector.sweeping(2, 3, [keys.data(app.digest)])
    await at.collector.swept(2, 1)
    at.clock.advance(500)
    await settled()
    await at.collector.swept(2, 3)
    expect(await elapsedUntil(at.clock, push)).toBeLessThanOrEqual(500)
    await push
  })

  test('a round of a run that was deposed and may still delete', async () => {
    using at = await openInRound()
    await at.collector.end(2, 'deposed')
    await at.collector.owner(3)
    const push = putManifest(at, app)
    at.clock.advance(5_000)
    await settled()
    await at.collector.swept(2, 1)
    await elapsedUntil(at.clock, push)
    await push
  })

  test('no round that names none of its keys', async () => {
    using at = await openProtocolRegistry()
    for (const blob of ['config', 'layer']) await pushBlob(at, blob)
    await at.collector.done(1, condemned)
    await at.collector.owner(2)
    await at.collector.sweeping(2, 1, ['another/key'])
    const push = putManifest(at, app)
    expect(await elapsedUntil(at.clock, push)).toBe(0)
    await push
  })

  test('no round whose record is gone: those of a run go 30 days after its end', async () => {
    using at = await openInRound({
      wrap: (driver) => ({
        ...driver,
        read: async (key, options) => (key.includes('/sweeping-') ? undefined : driver.read(key, options)),
      }),
    })
    const push = putManifest(at, app)
    expect(await elapsedUntil(at.clock, push)).toBe(0)
    await push
  })
})

test('a round that a newer version wrote is not guessed at: 503, and nothing was written', async () => {
  using at = await openProtocolRegistry()
  for (const blob of ['config', 'layer']) await pushBlob(at, blob)
  await at.collector.done(1, condemned)
  await at.collector.owner(2)
  await at.collector.write(2, 'sweeping-0000000001', { format: 2, ranges: ['a', 'z'] })
  await expect(putManifest(at, app)).rejects.toMatchObject({ name: 'StorageUnavailable' })
  expect(await at.storage.read(keys.revision(app.digest))).toBeUndefined()
})

test('a round of very many long names is read whole', async () => {
  using at = await openProtocolRegistry()
  for (const blob of ['config', 'layer']) await pushBlob(at, blob)
  await at.collector.done(1, condemned)
  await at.collector.owner(2)
  const others = Array.from({ length: 20_000 }, (_, index) => `${'x'.repeat(900)}/${index}`)
  await at.collector.sweeping(2, 1, [...others, ...condemned], 5_000)
  const push = putManifest(at, app)
  expect(await elapsedUntil(at.clock, push)).toBe(5_500)
  await push
})

describe('where removals can be revoked', () => {
  function revocable(revoked: string[]): ProtocolRegistryOptions {
    return {
      wrap: (driver) => ({ ...driver, revokeRemovals: async (round) => void revoked.push(round) }),
    }
  }

  test('a push ends the round itself and goes on at once', async () => {
    const revoked: string[] = []
    using at = await openInRound(revocable(revoked))
    const push = putManifest(at, app, 'v1')
    expect(await elapsedUntil(at.clock, push)).toBe(0)
    await push
    expect(revoked).toEqual(['0000000002-0000000001'])
    const operations = at.operations()
    expect(operations.indexOf('revoke 0000000002-0000000001')).toBeLessThan(
      operations.findIndex((operation) => operation.startsWith('stat _layers')),
    )
  })

  test('a round is revoked also after its lease: its collector may be asleep just before its delete', async () => {
    const revoked: string[] = []
    using at = await openInRound(revocable(revoked))
    at.clock.advance(3_600_000)
    await settled()
    await putManifest(at, app, 'v1')
    expect(revoked).toEqual(['0000000002-0000000001'])
  })

  test('a round that is swept, or names other keys, is left alone', async () => {
    const revoked: string[] = []
    using at = await openInRound(revocable(revoked))
    await at.collector.swept(2, 1)
    await at.collector.sweeping(2, 2, ['another/key'])
    await putManifest(at, app, 'v1')
    expect(revoked).toEqual([])
  })
})
