import assert from 'node:assert/strict'
import { PreconditionFailed, type Listed } from '../driver.ts'
import {
  assertInvisible,
  assertSameBytes,
  collectListed,
  collectStream,
  inParallel,
  kibibyte,
  mebibyte,
  patternedBytes,
  uploadBytes,
  type ContractCase,
  type ContractContext,
} from './case.ts'

/** Writes one source for each size, and lists them; an upload may be of any size. */
async function writeSources(
  { driver, prefix }: ContractContext,
  sizes: readonly number[],
): Promise<Listed[]> {
  await inParallel(sizes, (size, index) =>
    uploadBytes(driver, sourceKey(prefix, index), patternedBytes(size, index + 1)),
  )
  return collectListed(driver, `${prefix}sources/`)
}

function sourceKey(prefix: string, index: number): string {
  return `${prefix}sources/${String(index).padStart(3, '0')}`
}

function contentOf(sizes: readonly number[]): Buffer {
  return Buffer.concat(sizes.map((size, index) => patternedBytes(size, index + 1)))
}

const small = Array.from({ length: 60 }, (_, index) => index * 17)
const mixed = [6 * mebibyte, 1, 5 * mebibyte, 0, 100 * kibibyte, 200 * kibibyte, 7 * mebibyte + 5, 5]

export const compositionCases: readonly ContractCase[] = [
  ...[
    { name: 'no source is an empty object', sizes: [] },
    { name: 'one small source is its copy', sizes: [1000] },
    { name: 'one empty source is its copy', sizes: [0] },
    { name: 'one large source is its copy', sizes: [12 * mebibyte + 1] },
    { name: 'sixty small sources is their bytes in order', sizes: small },
    { name: 'small and large sources is their bytes in order', sizes: mixed },
    {
      name: 'large sources alone is their bytes in order',
      sizes: [5 * mebibyte, 9 * mebibyte, 5 * mebibyte],
    },
  ].map(({ name, sizes }) => ({
    name: `a composition of ${name}, and its sources stay`,
    async run(context: ContractContext) {
      const { driver, second, prefix } = context
      const sources = await writeSources(context, sizes)
      await driver.compose(sources, `${prefix}composed/a`)
      assertSameBytes(await collectStream(second, `${prefix}composed/a`), contentOf(sizes), 'a composition')
      const after = await collectListed(second, `${prefix}sources/`)
      assert.deepEqual(after, sources, 'a composition changed its sources')
      await driver.remove(sources.map(({ key }) => key))
      assertSameBytes(
        await collectStream(second, `${prefix}composed/a`),
        contentOf(sizes),
        'what outlived its sources',
      )
    },
  })),
  {
    name: 'the order of sources is that of the call, and one may occur twice',
    async run(context) {
      const { driver, prefix } = context
      const sizes = [10, 20, 30]
      const [first, second, third] = await writeSources(context, sizes)
      assert.ok(first && second && third, 'a source is missing from a listing')
      await driver.compose([third, first, third, second], `${prefix}a`)
      const [one, two, three] = sizes.map((size, index) => patternedBytes(size, index + 1))
      const expected = Buffer.concat([three, one, three, two].filter((part) => part !== undefined))
      assertSameBytes(await driver.read(`${prefix}a`), expected, 'a composition out of order')
    },
  },
  {
    name: 'a composition replaces what was there, and making it again gives the same',
    async run(context) {
      const { driver, prefix } = context
      const sources = await writeSources(context, [100])
      await driver.write(`${prefix}a`, Buffer.from('old'))
      for (let round = 0; round < 2; round++) {
        await driver.compose(sources, `${prefix}a`)
        assertSameBytes(
          await driver.read(`${prefix}a`),
          contentOf([100]),
          'a composition over an older object',
        )
      }
    },
  },
  {
    name: 'a composition takes what append told of its segments',
    async run({ driver, second, prefix }) {
      const bytes = patternedBytes(3000)
      const segments: Listed[] = []
      for (const [start, end] of [[0, 1000] as const, [1000, 3000] as const]) {
        const append = await driver.append(`${prefix}data/`, start)
        await append.write(Buffer.from(bytes.subarray(start, end)))
        segments.push(...(await append.close()))
      }
      await second.compose(segments, `${prefix}a`)
      assertSameBytes(await driver.read(`${prefix}a`), bytes, 'a composition of segments')
    },
  },
  ...[[1000], [1000, 2000, 3000], [6 * mebibyte], [6 * mebibyte, 5 * mebibyte, 1000]].flatMap((sizes) =>
    (['changed', 'gone'] as const).map((fault) => ({
      name: `a composition of sources of ${sizes.join(', ')} bytes of which one is ${fault} is refused whole`,
      async run(context: ContractContext) {
        const { driver, second, prefix } = context
        const sources = await writeSources(context, sizes)
        const index = sizes.length - 1
        if (fault === 'gone') await second.remove([sourceKey(prefix, index)])
        else await uploadBytes(second, sourceKey(prefix, index), patternedBytes(sizes[index] ?? 0, 99))
        await assert.rejects(
          driver.compose(sources, `${prefix}composed/a`),
          PreconditionFailed,
          `a composition took a source that is ${fault} since it was listed`,
        )
        await assertInvisible(context, `${prefix}composed/a`, 'a refused composition')
      },
    })),
  ),
]
