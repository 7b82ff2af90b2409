/**
 * Two servers are pushed to while a collector runs, in random interleavings of their storage operations and of time:
 * what was acknowledged is there at the end. STOWAGE_SEED repeats a run.
 */
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { OciError } from '../../../src/oci/errors.ts'
import type { Driver } from '../../../src/storage/driver.ts'
import { memoryDriver } from '../../../src/storage/memory.ts'
import { collectorRecords } from '../../support/collector-records.ts'
import { collectorScript } from '../../support/collector-script.ts'
import { manualClock } from '../../support/manual-clock.ts'
import {
  digestOfText,
  image,
  keys,
  openProtocolRegistry,
  pushBlob,
  putManifest,
  repository,
  type Image,
  type ProtocolRegistry,
} from '../../support/protocol-registry.ts'
import { stepScheduler, type Burst } from '../../support/step-scheduler.ts'

const seed = Number(process.env['STOWAGE_SEED'] ?? Date.now() % 2 ** 31)
const blobs = ['config', 'layer']
const app = image('config', ['layer'])
const sharing = image('config', ['layer'], { annotations: { is: 'another image with the same layer' } })
const blobKeys = blobs.map(digestOfText).flatMap((digest) => [keys.layer(digest), keys.data(digest)])

interface Scenario {
  /** Whether the last run has announced the blobs already. */
  readonly isAnnounced: boolean
  readonly second: Image
  readonly bursts: readonly Burst[]
}

const collector = 2
const scenarios: fc.Arbitrary<Scenario> = fc.record({
  isAnnounced: fc.boolean(),
  second: fc.constantFrom(app, sharing),
  bursts: fc.array(
    fc.record({
      process: fc.nat(collector),
      steps: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.constant(100)),
      // Past the lease of a round, past that of a write, or not at all.
      jumpMs: fc.oneof(
        { weight: 8, arbitrary: fc.constant(0) },
        { weight: 1, arbitrary: fc.constantFrom(61_000, 91_000, 16 * 60_000) },
      ),
    }),
    { maxLength: 16 },
  ),
})

/** As a client pushes: what is there is skipped, and a push that is told what is missing begins again. */
async function push(at: ProtocolRegistry, pushed: Image, tag: string): Promise<boolean> {
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      for (const blob of blobs) {
        if (!(await at.registry.blobs.stat(repository, digestOfText(blob)))) await pushBlob(at, blob)
      }
      await putManifest(at, pushed, tag)
      return true
    } catch (error) {
      if (!(error instanceof OciError)) throw error
    }
  }
  return false
}

/** @returns the keys that acknowledged images need and that are gone, after two more runs of the collector */
async function missingAfter({ isAnnounced, second, bursts }: Scenario, variant: (driver: Driver) => Driver) {
  const clock = manualClock()
  const storage = memoryDriver({ clock })
  const scheduler = stepScheduler(clock)
  const records = collectorRecords(storage)
  await records.claim('test')
  // What somebody pushed once and nothing refers to.
  for (const blob of blobs) {
    await storage.write(keys.data(digestOfText(blob)), Buffer.from(blob))
    await storage.write(keys.layer(digestOfText(blob)), Buffer.from(digestOfText(blob)))
  }
  const announced = isAnnounced ? blobKeys : []
  await records.done(1, announced)

  const open = (process: number) =>
    openProtocolRegistry({ clock, storage: scheduler.driverOf(process, storage), wrap: variant })
  using one = await open(0)
  using two = await open(1)
  const script = collectorScript(scheduler.driverOf(collector, storage), new Set(announced))
  const pushes = [push(one, app, 'v1'), push(two, second, 'v2')]
  const collecting = (async () => {
    for (const run of [2, 3]) await script.collect(run)
  })()
  await scheduler.run([...pushes, collecting], bursts)
  await collecting
  const acknowledged = await Promise.all(pushes)
  for (const run of [4, 5]) await script.collect(run)

  const needed = [app, second].flatMap(({ digest }, at) =>
    acknowledged[at] ? [keys.tag(`v${at + 1}`), keys.revision(digest), keys.data(digest), ...blobKeys] : [],
  )
  const missing: string[] = []
  for (const key of needed) if (!(await storage.stat(key)).object) missing.push(key)
  return { missing, acknowledged }
}

const asItIs = (driver: Driver) => driver

describe(`random interleavings (STOWAGE_SEED=${seed})`, () => {
  test('nothing that an acknowledged image needs is ever collected', async () => {
    let acknowledgedPushes = 0
    await fc.assert(
      fc.asyncProperty(scenarios, async (scenario) => {
        const { missing, acknowledged } = await missingAfter(scenario, asItIs)
        acknowledgedPushes += acknowledged.filter(Boolean).length
        expect(missing).toEqual([])
      }),
      { seed, numRuns: 200 },
    )
    expect(acknowledgedPushes).toBeGreaterThan(300)
  }, 60_000)

  /** Each leaves one rule of the writer's half out, below code that knows nothing of it. */
  const variants: Readonly<Record<string, (driver: Driver) => Driver>> = {
    'R2 writes no rescue': (driver) => ({
      ...driver,
      async write(key, bytes, options) {
        if (!key.startsWith('stowage/gc/rescues/')) await driver.write(key, bytes, options)
      },
    }),
    'R2 does not wait for an open round': (driver) => ({
      ...driver,
      async *list(prefix, options) {
        for await (const listed of driver.list(prefix, options)) {
          if (!listed.key.includes('/sweeping-')) yield listed
        }
      },
    }),
    'R1 tests nothing': (driver) => ({
      ...driver,
      async read(key, options) {
        const bytes = await driver.read(key, options)
        return bytes && key.includes('/condemned-') ? Buffer.alloc(0) : bytes
      },
    }),
    'R5 does not look again': (driver) => {
      let isAfterTag = false
      return {
        ...driver,
        async write(key, bytes, options) {
          await driver.write(key, bytes, options)
          isAfterTag = key.includes('/tags/')
        },
        async stat(key, options) {
          const answer = await driver.stat(key, options)
          if (!isAfterTag || !key.startsWith('stowage/gc/runs/')) return answer
          isAfterTag = false
          return { date: answer.date }
        },
      }
    },
    'R3 believes that everything is there': (driver) => ({
      ...driver,
      async stat(key, options) {
        const answer = await driver.stat(key, options)
        const object = answer.object ?? { size: 1, modified: 0, version: '' }
        return key.includes('/_layers/') || key.endsWith('/data') ? { ...answer, object } : answer
      },
    }),
  }

  /** Where the search finds it soon, so that it is the same each time: it is the search that is tried here. */
  const seeds: Readonly<Record<string, number>> = {
    'R2 writes no rescue': 37,
    'R2 does not wait for an open round': 11,
    'R1 tests nothing': 7,
    'R5 does not look again': 1,
    'R3 believes that everything is there': 1,
  }

  test.each(Object.entries(variants))(
    'the search finds it where %s',
    async (what, variant) => {
      const property = fc.asyncProperty(scenarios, async (scenario) => {
        const { missing } = await missingAfter(scenario, variant)
        expect(missing).toEqual([])
      })
      const { failed, counterexample, numRuns } = await fc.check(property, {
        seed: seeds[what] ?? seed,
        numRuns: 5_000,
        endOnFailure: true,
      })
      expect({ failed, numRuns }).toMatchObject({ failed: true })
      expect(counterexample).not.toBeNull()
    },
    60_000,
  )
})
