import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { shareReads } from '../../../src/registry/shared-reads.ts'

test('a caller never joins a read that began before it arrived, and a key is never read twice at once', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.scheduler(),
      fc.array(fc.nat(3), { minLength: 1, maxLength: 12 }),
      async (s, delays) => {
        let now = 0
        let running = 0
        let mostAtOnce = 0
        const read = shareReads(async (_key: string) => {
          const begun = now++
          mostAtOnce = Math.max(mostAtOnce, ++running)
          await s.schedule(Promise.resolve(), 'storage')
          running--
          return begun
        })
        const callers = delays.map(async (turns) => {
          await s.schedule(Promise.resolve(), 'arrival')
          // Arrivals between two steps of a read's own end matter most: they are microtasks apart.
          for (let turn = 0; turn < turns; turn++) await Promise.resolve()
          const arrived = now++
          return { arrived, begun: await read('key') }
        })
        await s.waitFor(Promise.all(callers))
        for (const { arrived, begun } of await Promise.all(callers)) expect(begun).toBeGreaterThan(arrived)
        expect(mostAtOnce).toBe(1)
      },
    ),
    { numRuns: 500 },
  )
})

test('callers that arrive at any microtask around the end of a read never make two reads at once', async () => {
  for (let turns = 0; turns < 20; turns++) {
    let running = 0
    let mostAtOnce = 0
    let release = Promise.withResolvers<void>()
    const read = shareReads(async (_key: string) => {
      mostAtOnce = Math.max(mostAtOnce, ++running)
      await release.promise
      running--
    })
    const first = read('key')
    const second = read('key')
    release.resolve()
    release = Promise.withResolvers<void>()
    for (let turn = 0; turn < turns; turn++) await Promise.resolve()
    const third = read('key')
    await Promise.resolve()
    release.resolve()
    await Promise.all([first, second, third])
    expect({ turns, mostAtOnce }).toEqual({ turns, mostAtOnce: 1 })
  }
})

test('those who arrive while a read is under way share the next one', async () => {
  let reads = 0
  let release = Promise.withResolvers<void>()
  const read = shareReads(async (_key: string) => {
    const number = ++reads
    await release.promise
    return number
  })
  const first = read('key')
  const later = [read('key'), read('key'), read('key')]
  const other = read('another key')
  release.resolve()
  release = Promise.withResolvers<void>()
  release.resolve()
  expect(await first).toBe(1)
  expect(await other).toBe(2)
  expect(await Promise.all(later)).toEqual([3, 3, 3])
})

test('a read that fails fails only for those who share it', async () => {
  let reads = 0
  const read = shareReads(async (_key: string) => {
    if (++reads === 1) throw new Error('the storage is away')
    return reads
  })
  const first = read('key')
  const second = read('key')
  await expect(first).rejects.toThrow('the storage is away')
  expect(await second).toBe(2)
  expect(await read('key')).toBe(3)
})
