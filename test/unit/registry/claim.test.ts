/** docs/GARBAGE-COLLECTION.md: a bucket is ours before anything is collected in it. */
import { expect, test } from '@jest/globals'
import { openClaim, type Claim } from '../../../src/registry/claim.ts'
import { defaultSafetyTimes } from '../../../src/registry/safety.ts'
import type { Driver } from '../../../src/storage/driver.ts'
import { memoryDriver } from '../../../src/storage/memory.ts'
import { createLog } from '../../../src/telemetry/log.ts'
import { collectorRecords, shortTimes } from '../../support/collector-records.ts'
import { interruptDriver, pause } from '../../support/driver-interrupt.ts'
import { image, keys, keysOf, openProtocolRegistry } from '../../support/protocol-registry.ts'

async function open(driver: Driver, owner: string): Promise<Claim & { readonly lines: readonly string[] }> {
  const lines: string[] = []
  const log = createLog({
    level: 'info',
    format: 'json',
    destination: { write: (line) => lines.push(line) },
  })
  return { ...(await openClaim({ driver, log, owner })), lines }
}

async function stored(driver: Driver): Promise<unknown> {
  return JSON.parse((await driver.read('stowage/gc/claim'))?.toString() ?? 'null')
}

test('an empty storage is claimed, with the owner, the times and the version of the protocol', async () => {
  const driver = memoryDriver()
  const claim = await open(driver, 'cluster-a/registry')
  expect(claim).toMatchObject({ owner: 'cluster-a/registry', times: defaultSafetyTimes, lines: [] })
  expect(await stored(driver)).toEqual({ format: 1, owner: 'cluster-a/registry', times: defaultSafetyTimes })
  expect(await keysOf(driver)).toEqual(['stowage/gc/claim', 'stowage/referrers-complete'])
})

test('the claim is found again, and its times are those that count', async () => {
  const driver = memoryDriver()
  await collectorRecords(driver).claim('test', { times: { ...shortTimes, writeLeaseMs: 1_000 } })
  expect((await open(driver, 'test')).times.writeLeaseMs).toBe(1_000)
})

test('the leases of pushes and deletes are those of the claim', async () => {
  const leases: number[] = []
  const storage = memoryDriver()
  await collectorRecords(storage).claim('test', {
    times: { ...shortTimes, writeLeaseMs: 7_000, removeLeaseMs: 3_000 },
  })
  using at = await openProtocolRegistry({
    storage,
    wrap: (driver) => ({
      ...driver,
      async write(key, bytes, options) {
        if (options?.lease) leases.push(options.lease.durationMs)
        await driver.write(key, bytes, options)
      },
      async remove(removed, options) {
        if (options?.lease) leases.push(options.lease.durationMs)
        await driver.remove(removed, options)
      },
    }),
  })
  const index = image('config', [])
  await storage.write(keys.revision(index.digest), Buffer.from(index.digest))
  const repository = 'library/app' as Parameters<typeof at.registry.manifests.remove>[0]
  await at.registry.manifests.remove(repository, index.digest)
  await at.registry.uploads.push(repository, index.digest, { chunks: bytesOf(index.bytes) })
  expect(new Set(leases)).toEqual(new Set([3_000, 7_000]))
})

async function* bytesOf(bytes: Buffer) {
  yield bytes
}

test('the content of another registry is served unclaimed, and nothing is written into it', async () => {
  const driver = memoryDriver()
  const key = keys.tag('v1')
  await driver.write(key, Buffer.from('sha256:...'))
  const claim = await open(driver, 'test')
  expect(claim).toMatchObject({ owner: 'test', times: defaultSafetyTimes })
  expect(claim.lines.join()).toContain('not claimed')
  expect(await keysOf(driver)).toEqual([key])
})

test('the claim of another owner stays, and is warned of', async () => {
  const driver = memoryDriver()
  await collectorRecords(driver).claim('cluster-b')
  const before = await stored(driver)
  const claim = await open(driver, 'cluster-a')
  expect(claim.owner).toBe('cluster-b')
  expect(claim.lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
    { level: 'warn', owner: 'cluster-a', claimedBy: 'cluster-b' },
  ])
  expect(await stored(driver)).toEqual(before)
})

test('a claim that a newer version made refuses to start', async () => {
  const driver = memoryDriver()
  await collectorRecords(driver).claim('test', { format: 2 })
  await expect(open(driver, 'test')).rejects.toThrow('newer version')
  await expect(openProtocolRegistry({ storage: driver })).rejects.toThrow('newer version')
})

test.each(['{', '{"format":1}', '{"format":1,"owner":"test","times":{"writeLeaseMs":-1}}'])(
  'a claim that is damaged refuses to start: %s',
  async (text) => {
    const driver = memoryDriver()
    await driver.write('stowage/gc/claim', Buffer.from(text))
    await expect(open(driver, 'test')).rejects.toThrow('damaged')
  },
)

test('of two servers that start at once on an empty storage one claims it, and both know', async () => {
  const driver = memoryDriver()
  using paused = pause()
  const slow = interruptDriver(driver, {
    at: 1,
    when: 'before',
    matches: ({ verb }) => verb === 'write',
    interrupt: paused.interrupt,
  })
  const late = open(slow, 'late')
  await paused.reached
  expect((await open(driver, 'early')).owner).toBe('early')
  paused.resume()
  const claim = await late
  expect(claim.owner).toBe('early')
  expect(claim.lines.join()).toContain('another installation')
})

test('a server that looks when another has claimed and is pushed to already, does not take it for foreign', async () => {
  const driver = memoryDriver()
  using paused = pause()
  const slow = interruptDriver(driver, {
    at: 1,
    when: 'before',
    matches: ({ verb }) => verb === 'list',
    interrupt: paused.interrupt,
  })
  const late = open(slow, 'test')
  await paused.reached
  await collectorRecords(driver).claim('test', { times: { ...shortTimes, writeLeaseMs: 1_000 } })
  await driver.write(keys.tag('v1'), Buffer.from('sha256:...'))
  paused.resume()
  const claim = await late
  expect(claim.times.writeLeaseMs).toBe(1_000)
  expect(claim.lines).toEqual([])
})
