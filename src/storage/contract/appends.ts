import assert from 'node:assert/strict'
import { segmentKey, type Driver, type Listed } from '../driver.ts'
import {
  assertSameBytes,
  collectKeys,
  collectListed,
  collectStream,
  mebibyte,
  patternedBytes,
  winnerOf,
  writeInChunks,
  type ContractCase,
} from './case.ts'

async function appendBytes(
  driver: Driver,
  prefix: string,
  offset: number,
  bytes: Buffer,
): Promise<readonly Listed[]> {
  const append = await driver.append(prefix, offset)
  await writeInChunks(append, bytes)
  return append.close()
}

/** Fails unless the segments below `prefix` are one chain from offset 0, without gap or overlap, that holds `bytes`. */
async function assertChain(driver: Driver, prefix: string, bytes: Buffer): Promise<void> {
  const segments = await collectListed(driver, prefix)
  const parts: Buffer[] = []
  let offset = 0
  for (const { key, object } of segments) {
    assert.equal(key, segmentKey(prefix, offset), 'the segments have a gap, or overlap')
    const part = await collectStream(driver, key)
    assert.equal(part?.length, object.size, 'a segment has another size than was listed')
    if (part) parts.push(part)
    offset += object.size
  }
  assertSameBytes(Buffer.concat(parts), bytes, 'what was appended')
}

export const appendCases: readonly ContractCase[] = [
  {
    name: 'appends form a chain of segments, each named by the offset of its first byte',
    async run({ driver, second, prefix }) {
      const folder = `${prefix}data/`
      const bytes = patternedBytes(70_000)
      const segments: Listed[] = []
      for (const [start, end] of [
        [0, 1],
        [1, 40_000],
        [40_000, 70_000],
      ] as const) {
        const side = segments.length % 2 ? second : driver
        segments.push(...(await appendBytes(side, folder, start, bytes.subarray(start, end))))
      }
      await assertChain(second, folder, bytes)
      const listed = await collectListed(driver, folder)
      assert.deepEqual(
        segments.map(({ key, object }) => [key, object.size, object.version]),
        listed.map(({ key, object }) => [key, object.size, object.version]),
        'append tells other segments, sizes or versions than the listing',
      )
    },
  },
  {
    name: 'an append of 20 MiB is whole, and what follows joins it',
    async run({ driver, prefix }) {
      const bytes = patternedBytes(20 * mebibyte + 3)
      const size = 20 * mebibyte
      await appendBytes(driver, prefix, 0, bytes.subarray(0, size))
      await appendBytes(driver, prefix, size, bytes.subarray(size))
      await assertChain(driver, prefix, bytes)
    },
  },
  {
    name: 'an append to which nothing was written makes no segment',
    async run({ driver, prefix }) {
      const untouched = await driver.append(prefix, 0)
      assert.deepEqual(await untouched.close(), [])
      const empty = await driver.append(prefix, 0)
      await empty.write(Buffer.alloc(0))
      assert.deepEqual(await empty.close(), [])
      assert.deepEqual(await collectKeys(driver, prefix), [])
    },
  },
  {
    name: 'the keys of segments sort as their offsets do',
    async run({ driver, prefix }) {
      const offsets = [0, 9, 10, 99, 1_000_000, 2_147_483_648, 1_099_511_627_776]
      for (const offset of offsets.toReversed()) await appendBytes(driver, prefix, offset, Buffer.from('x'))
      const expected = offsets.map((offset) => segmentKey(prefix, offset))
      assert.deepEqual(await collectKeys(driver, prefix, ''), expected)
    },
  },
  ...[
    { racers: 16, size: 1000 },
    { racers: 2, size: 12 * mebibyte },
  ].map(({ racers, size }) => ({
    name: `of ${racers} who append ${size} bytes at one offset one wins, and nothing of the others is left`,
    async run({ driver, second, prefix }: Parameters<ContractCase['run']>[0]) {
      const attempts = Array.from({ length: racers }, (_, racer) =>
        appendBytes(racer % 2 ? second : driver, prefix, 0, patternedBytes(size, racer + 1)),
      )
      const results = await Promise.allSettled(attempts)
      const winner = winnerOf(results, 'segments are created only if absent')
      await assertChain(driver, prefix, patternedBytes(size, winner + 1))
    },
  })),
]
