/** docs/GARBAGE-COLLECTION.md, R4: what a server that slept still writes is refused, and its push starts again. */
import { describe, expect, test } from '@jest/globals'
import { parseTag } from '../../../src/oci/names.ts'
import { LeaseExpired, type Driver, type WriteLease } from '../../../src/storage/driver.ts'
import { interruptDriver } from '../../support/driver-interrupt.ts'
import type { Operation } from '../../support/driver-tap.ts'
import { manualClock } from '../../support/manual-clock.ts'
import {
  chunksOf,
  digestOfText,
  image,
  keys,
  openProtocolRegistry,
  pushBlob,
  putManifest,
  repository,
  settled,
  shortKey as short,
  type ProtocolRegistry,
} from '../../support/protocol-registry.ts'

const app = image('config', ['layer'])
const layer = digestOfText('layer')
const leaseMs = 15 * 60_000
const tagLeaseMs = 60_000

/** A registry whose server sleeps before its first operation that matches. */
async function openSleeper(
  sleepMs: number,
  matches: (operation: Operation) => boolean,
  onWake: (at: ProtocolRegistry) => unknown = () => undefined,
): Promise<ProtocolRegistry> {
  const clock = manualClock()
  let at: ProtocolRegistry | undefined
  const opened = await openProtocolRegistry({
    clock,
    wrap: (driver) =>
      interruptDriver(driver, {
        at: 1,
        when: 'before',
        matches,
        async interrupt() {
          clock.advance(sleepMs)
          await settled()
          if (at) await onWake(at)
        },
      }),
  })
  return (at = opened)
}

const isWrite = (key: string) => (operation: Operation) => operation.verb === 'write' && operation.key === key

const writes = {
  'its data': keys.data(app.digest),
  'its link': keys.revision(app.digest),
  'the history of its tag': keys.history('v1', app.digest),
  'its tag': keys.tag('v1'),
}

describe.each(Object.entries(writes))('a server that sleeps before it writes %s', (_what, key) => {
  test('is refused after 15 minutes, starts its push again and succeeds', async () => {
    using at = await openSleeper(leaseMs + 1, isWrite(key))
    for (const blob of ['config', 'layer']) await pushBlob(at, blob)
    at.operations()
    await putManifest(at, app, 'v1')
    const operations = at.operations()
    expect(operations.filter((operation) => operation === `write ${short(key)}`)).toHaveLength(2)
    // R1, R1 again, R5; and what the poll in the background read when the clock moved.
    expect(operations.filter((operation) => operation.includes('gc/runs')).length).toBeGreaterThanOrEqual(3)
    expect(operations.filter((operation) => operation === `stat ${short(keys.data(layer))}`)).toHaveLength(2)
    expect(await at.registry.tags.resolve(repository, parseTag('v1'))).toBe(app.digest)
  })

  test('is admitted at the last moment of the tag, whose write is sent once and waited out', async () => {
    using at = await openSleeper(tagLeaseMs, isWrite(key))
    for (const blob of ['config', 'layer']) await pushBlob(at, blob)
    at.operations()
    await putManifest(at, app, 'v1')
    expect(at.operations().filter((operation) => operation === `write ${short(key)}`)).toHaveLength(1)
  })

  test('makes no tag of an image whose layer was collected while it slept', async () => {
    using at = await openSleeper(leaseMs + 1, isWrite(key), async ({ storage, collector }) => {
      await collector.done(1, [keys.layer(layer), keys.data(layer)])
      await collector.owner(2)
      await storage.remove([keys.layer(layer), keys.data(layer)])
      await collector.end(2, 'done')
    })
    for (const blob of ['config', 'layer']) await pushBlob(at, blob)
    await expect(putManifest(at, app, 'v1')).rejects.toMatchObject({
      code: 'MANIFEST_BLOB_UNKNOWN',
      detail: { digests: [layer] },
    })
    expect(await at.registry.tags.resolve(repository, parseTag('v1'))).toBeUndefined()
  })
})

test('a tag that somebody moved meanwhile is not put back by a write that slept', async () => {
  const newer = image('config', ['layer'], { annotations: { is: 'newer' } })
  using at = await openSleeper(leaseMs + 1, isWrite(keys.tag('v1')), async ({ storage }) => {
    await storage.write(keys.revision(newer.digest), Buffer.from(newer.digest))
    await storage.write(keys.tag('v1'), Buffer.from(newer.digest))
    expect((await storage.read(keys.tag('v1')))?.toString()).toBe(newer.digest)
  })
  const seen: string[] = []
  const { storage } = at
  const tag = async () => (await storage.read(keys.tag('v1')))?.toString() ?? 'none'
  for (const blob of ['config', 'layer']) await pushBlob(at, blob)
  const push = putManifest(at, app, 'v1')
  for (let turn = 0; turn < 4; turn++) {
    seen.push(await tag())
    await settled()
  }
  await push
  // It is written in the end: by the push that began again, which is younger than the other one.
  expect(await tag()).toBe(app.digest)
  expect(seen[0]).toBe('none')
})

describe('a blob', () => {
  test('whose upload is completed too late is completed again under a new lease', async () => {
    using at = await openSleeper(leaseMs + 1, ({ verb }) => verb === 'complete')
    await pushBlob(at, 'layer')
    const operations = at.operations()
    expect(operations.filter((operation) => operation.startsWith('complete'))).toHaveLength(2)
    expect((await at.storage.read(keys.data(layer)))?.toString()).toBe('layer')
  })

  test('whose segments are composed too late is composed again', async () => {
    using at = await openSleeper(leaseMs + 1, ({ verb }) => verb === 'compose')
    const { id } = await at.registry.uploads.start(repository, 'sha256')
    await at.registry.uploads.append(repository, id, { chunks: chunksOf(Buffer.from('layer')) })
    await at.registry.uploads.finish(repository, id, layer, { chunks: chunksOf(), size: 0 })
    expect(at.operations().filter((operation) => operation.startsWith('compose'))).toHaveLength(2)
    expect((await at.storage.read(keys.data(layer)))?.toString()).toBe('layer')
  })

  test('is answered within 15 minutes of R1, or the records are read again first', async () => {
    const isLink = isWrite(keys.layer(layer))
    const clock = manualClock()
    using at = await openProtocolRegistry({
      clock,
      wrap: (driver) =>
        interruptDriver(driver, {
          at: 1,
          when: 'after',
          matches: isLink,
          interrupt: () => clock.advance(leaseMs + 1),
        }),
    })
    await pushBlob(at, 'layer')
    const operations = at.operations()
    const links = operations.flatMap((operation, index) =>
      operation.startsWith('write _layers') ? [index] : [],
    )
    expect(links).toHaveLength(2)
    expect(operations.slice((links[0] ?? 0) + 1, links[1])).toContain('stat gc/runs/0000000001/owner')
  })
})

test('what is pushed by digest is admitted at the last moment of the lease', async () => {
  for (const key of [keys.data(app.digest), keys.revision(app.digest)]) {
    using at = await openSleeper(leaseMs, isWrite(key))
    for (const blob of ['config', 'layer']) await pushBlob(at, blob)
    at.operations()
    await putManifest(at, app)
    expect(at.operations().filter((operation) => operation === `write ${short(key)}`)).toHaveLength(1)
  }
})

test('every write of a push carries the generation and the date of R1, and a tag a shorter time', async () => {
  const leases: (WriteLease | undefined)[] = []
  const noteLeases = (driver: Driver): Driver => ({
    ...driver,
    write(key, bytes, options) {
      if (!key.startsWith('stowage/uploads/') && !key.startsWith('stowage/gc/')) leases.push(options?.lease)
      return driver.write(key, bytes, options)
    },
  })
  using at = await openProtocolRegistry({ wrap: noteLeases })
  for (const blob of ['config', 'layer']) await pushBlob(at, blob)
  await at.collector.done(1, ['some/key'])
  const { storage, clock } = at
  at.clock.advance(1_234)
  await settled()
  leases.length = 0
  await putManifest(at, app, 'v1')
  const { date } = await storage.stat('anything')
  expect(date).toBe(clock.now())
  const lease = { generation: 1, date, durationMs: leaseMs }
  expect(leases).toEqual([lease, lease, lease, { ...lease, durationMs: tagLeaseMs }])
})

test('a storage that refuses every write as late is given up: 503 and nothing is there', async () => {
  using at = await openProtocolRegistry({
    wrap: (driver) => ({
      ...driver,
      async write(key, bytes, options) {
        if (options?.lease) throw new LeaseExpired(key)
        return driver.write(key, bytes, options)
      },
    }),
  })
  await expect(pushBlob(at, 'layer')).rejects.toMatchObject({ code: 'UNAVAILABLE', status: 503 })
  expect(await at.registry.blobs.stat(repository, layer)).toBeUndefined()
})
