/** docs/GARBAGE-COLLECTION.md, "Words": how a server follows the runs of the collector. */
import { describe, expect, test } from '@jest/globals'
import { setImmediate as tick } from 'node:timers/promises'
import { systemClock } from '../../../src/clock.ts'
import { openRunRecords, type RunRecords } from '../../../src/registry/run-records.ts'
import type { Driver } from '../../../src/storage/driver.ts'
import { memoryDriver } from '../../../src/storage/memory.ts'
import { collectorRecords, type CollectorRecords } from '../../support/collector-records.ts'
import { interruptDriver, pause } from '../../support/driver-interrupt.ts'
import { logOperations } from '../../support/driver-log.ts'
import { manualClock } from '../../support/manual-clock.ts'
import { settled } from '../../support/protocol-registry.ts'

interface Setup extends Disposable {
  readonly storage: Driver
  readonly collector: CollectorRecords
  readonly records: RunRecords
  operations(): string[]
}

async function openRecords(storage = memoryDriver(), wrapped = storage): Promise<Setup> {
  const logged = logOperations(wrapped)
  const onPollError = () => undefined
  const records = await openRunRecords({ driver: logged.driver, clock: systemClock, onPollError })
  return {
    storage,
    collector: collectorRecords(storage),
    records,
    operations() {
      const said = logged.operations.map(
        ({ verb, key }) => `${verb} ${key.replace(/^stowage\/gc\/runs\/0*/, '')}`,
      )
      logged.clear()
      return said
    },
    [Symbol.dispose]: () => records.close(),
  }
}

test('with no run at all the generation is 0, and one HEAD of the first owner tells so', async () => {
  using at = await openRecords()
  at.operations()
  expect(await at.records.fresh()).toMatchObject({ generation: 0, condemned: { size: 0 } })
  expect(at.operations()).toEqual(['stat 1/owner'])
})

test('the date is the storage’s own, of the first answer', async () => {
  const clock = manualClock(Date.UTC(2031, 4, 1))
  const storage = memoryDriver({ clock })
  const slow: Driver = {
    ...storage,
    async stat(key, options) {
      const answer = await storage.stat(key, options)
      clock.advance(1_000)
      return answer
    },
  }
  using at = await openRecords(storage, slow)
  await at.collector.done(1)
  const begun = clock.now()
  expect(await at.records.fresh()).toMatchObject({ generation: 1, date: begun })
  expect(clock.now()).toBe(begun + 3_000)
})

test('a run that ended is found by its end, then the next owner is looked for', async () => {
  using at = await openRecords()
  await at.collector.done(1, ['a/key'])
  at.operations()
  const { generation, condemned } = await at.records.fresh()
  expect({ generation, size: condemned.size, has: condemned.has('a/key') }).toEqual({
    generation: 1,
    size: 1,
    has: true,
  })
  expect(at.operations()).toEqual([
    'stat 1/owner',
    'stat 1/end',
    'read 1/end',
    'stat 2/owner',
    'read 1/end',
    'read 1/condemned-0',
  ])
  await at.records.fresh()
  expect(at.operations()).toEqual(['stat 2/owner'])
})

test('a run that is under way condemns nothing before its end', async () => {
  using at = await openRecords()
  await at.collector.done(1, ['old/key'])
  await at.collector.owner(2)
  await at.collector.condemned(2, ['new/key'])
  const { generation, condemned } = await at.records.fresh()
  expect(generation).toBe(1)
  expect(condemned.has('old/key')).toBe(true)
  expect(condemned.has('new/key')).toBe(false)
})

test('a deposed run does not move the generation, and the run before it still condemns', async () => {
  using at = await openRecords()
  await at.collector.done(1, ['old/key'])
  await at.collector.owner(2)
  await at.collector.condemned(2, ['new/key'])
  await at.collector.end(2, 'deposed', ['0'])
  await at.collector.owner(3)
  const { generation, condemned } = await at.records.fresh()
  expect(generation).toBe(1)
  expect(condemned.has('old/key')).toBe(true)
  expect(condemned.has('new/key')).toBe(false)
})

test('only the newest done run condemns, and all its shards do', async () => {
  using at = await openRecords()
  await at.collector.done(1, ['old/key'])
  await at.collector.owner(2)
  await at.collector.condemned(2, ['a', 'b'], '0')
  await at.collector.condemned(2, ['c'], 'f')
  await at.collector.condemned(2, ['not named by the end'], '7')
  await at.collector.end(2, 'done', ['0', 'f'])
  const { generation, condemned } = await at.records.fresh()
  expect({ generation, size: condemned.size }).toEqual({ generation: 2, size: 3 })
  const asked = ['a', 'b', 'c', 'old/key', 'not named by the end', 'd']
  expect(asked.filter((key) => condemned.has(key))).toEqual(['a', 'b', 'c'])
})

test('a server that slept through many runs catches up in one read', async () => {
  using at = await openRecords()
  for (let run = 1; run <= 12; run++) {
    await (run % 3 === 0 ? at.collector.deposed(run) : at.collector.done(run, [`key/${run}`]))
  }
  // What is 30 days old goes, owner and end stay.
  await at.storage.remove(['stowage/gc/runs/0000000001/condemned-0'])
  const { generation, condemned } = await at.records.fresh()
  expect(generation).toBe(11)
  expect(condemned.has('key/11')).toBe(true)
  expect(condemned.has('key/10')).toBe(false)
})

test('a server that starts finds the generation below runs that were deposed or are under way', async () => {
  const storage = memoryDriver()
  const collector = collectorRecords(storage)
  for (const run of [1, 2, 3]) await collector.done(run, [`key/${run}`])
  for (const run of [4, 5]) await collector.deposed(run)
  await collector.owner(6)
  using at = await openRecords(storage)
  const { generation, condemned } = await at.records.fresh()
  expect(generation).toBe(3)
  expect(condemned.has('key/3')).toBe(true)
  expect(at.operations().at(-1)).toBe('stat 6/end')
})

test('a server that starts sees every sequence of runs as one that watched them', async () => {
  const storage = memoryDriver()
  const collector = collectorRecords(storage)
  using watching = await openRecords(storage)
  for (const [at, outcome] of (
    ['deposed', 'done', 'deposed', 'deposed', 'done', 'done'] as const
  ).entries()) {
    const run = at + 1
    await collector.owner(run)
    await collector.condemned(run, [`key/${run}`])
    for (const step of ['under way', 'ended'] as const) {
      if (step === 'ended') await collector.end(run, outcome, ['0'])
      using started = await openRecords(storage)
      const [seen, watched] = [await started.records.fresh(), await watching.records.fresh()]
      expect(seen.generation).toBe(watched.generation)
      for (let key = 1; key <= 6; key++) {
        expect(seen.condemned.has(`key/${key}`)).toBe(watched.condemned.has(`key/${key}`))
        expect(seen.condemned.has(`key/${key}`)).toBe(key === seen.generation)
      }
    }
  }
})

describe('what cannot be read is never taken for "not condemned"', () => {
  test('a shard that is missing fails the read, again and again, until it is there', async () => {
    using at = await openRecords()
    await at.collector.owner(1)
    await at.collector.end(1, 'done', ['0', '1'])
    await at.collector.condemned(1, ['a/key'], '0')
    for (const _ of [1, 2]) {
      await expect(at.records.fresh()).rejects.toMatchObject({ name: 'StorageUnavailable' })
    }
    await at.collector.condemned(1, ['b/key'], '1')
    const { generation, condemned } = await at.records.fresh()
    expect(generation).toBe(1)
    expect(condemned.has('b/key')).toBe(true)
  })

  test('a shard that was cut short fails the read', async () => {
    using at = await openRecords()
    await at.collector.owner(1)
    await at.collector.write(1, 'condemned-0', Buffer.alloc(12))
    await at.collector.end(1, 'done', ['0'])
    await expect(at.records.fresh()).rejects.toThrow('cut short')
  })

  test('an end that a newer version wrote is not guessed at: the read fails as unavailable', async () => {
    using at = await openRecords()
    await at.collector.owner(1)
    await at.collector.write(1, 'end', { format: 2, outcome: 'done', shards: [] })
    await expect(at.records.fresh()).rejects.toMatchObject({
      name: 'StorageUnavailable',
      message: expect.stringContaining('newer version') as unknown,
    })
  })

  test.each([{ outcome: 'perhaps' }, { outcome: 'done', shards: ['../../claim'] }, {}])(
    'an end that says %p fails the read',
    async (end) => {
      using at = await openRecords()
      await at.collector.owner(1)
      await at.collector.write(1, 'end', end)
      await expect(at.records.fresh()).rejects.toThrow('damaged')
    },
  )

  test('an end that was there and is gone fails the read', async () => {
    const storage = memoryDriver()
    const forgetful: Driver = {
      ...storage,
      read: async (key, options) => (key.endsWith('/end') ? undefined : storage.read(key, options)),
    }
    using at = await openRecords(storage, forgetful)
    await at.collector.done(1)
    await expect(at.records.fresh()).rejects.toMatchObject({ name: 'StorageUnavailable' })
  })
})

test('who asks while a read is under way gets one that began later', async () => {
  using paused = pause()
  const storage = memoryDriver()
  const isOwner = ({ verb, key }: { verb: string; key: string }) => verb === 'stat' && key.endsWith('/owner')
  const slow = interruptDriver(storage, {
    at: 2,
    when: 'after',
    matches: isOwner,
    interrupt: paused.interrupt,
  })
  using at = await openRecords(storage, slow)
  const early = at.records.fresh()
  await paused.reached
  await at.collector.done(1)
  const late = [at.records.fresh(), at.records.fresh()]
  await settled()
  paused.resume()
  expect((await early).generation).toBe(0)
  expect((await Promise.all(late)).map(({ generation }) => generation)).toEqual([1, 1])
})

test('whoever asks, however many at once, the generation never goes back', async () => {
  using at = await openRecords()
  let highest = 0
  let stop = false
  const ask = async (turns: number) => {
    while (!stop) {
      const before = highest
      const { generation } = await at.records.fresh()
      expect(generation).toBeGreaterThanOrEqual(before)
      highest = Math.max(highest, generation)
      for (let turn = 0; turn < turns; turn++) await Promise.resolve()
      if (turns % 4 === 0) await tick()
    }
  }
  const asking = Array.from({ length: 12 }, (_, index) => ask(index))
  for (let run = 1; run <= 40; run++) await at.collector.done(run, [`key/${run}`])
  stop = true
  await Promise.all(asking)
  expect((await at.records.fresh()).generation).toBe(40)
})
