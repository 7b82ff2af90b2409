/** Whatever is done, and through whichever of two drivers on one root: a file system answers as memory does. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { segmentKey, type Driver, type Listed, type WriteLease } from '../../../src/storage/driver.ts'
import { filesystemDriver } from '../../../src/storage/filesystem.ts'
import { memoryDriver } from '../../../src/storage/memory.ts'

interface Operation {
  /** What a caller is told, without what differs by nature: times and versions. */
  run(driver: Driver): Promise<unknown>
}

/** No key is a folder of another, which a file system could not hold. */
const keys = ['a-b', 'a.b', 'a/b', 'a/c/d', 'a/c/e', 'a0', 'ab', 'b/a/a', 'b/a-a', segmentKey('c/', 0), 'd']
const key = fc.constantFrom(...keys)
const text = fc.string({ maxLength: 12, unit: 'grapheme-ascii' })
const texts = fc.array(text, { maxLength: 4 })
const prefix = fc.constantFrom(
  '',
  'a',
  'a/',
  'a/c',
  'a/c/',
  'a-',
  'b/',
  'b/a',
  'b/a/',
  'c/',
  'z',
  'a/b/',
  '/',
)
const folder = fc.constantFrom('', 'a/', 'a/c/', 'b/', 'b/a/', 'c/', 'z/', 'a/b/')
const after = fc.oneof(key, fc.constantFrom('', 'a', 'a/', 'a/c/', 'a/zz', 'b', 'b/', 'b/a', '~'))
const lease = fc.constantFrom('none', 'valid', 'expired')

function leaseOptions(kind: string): { lease?: WriteLease } {
  if (kind === 'none') return {}
  return {
    lease: { generation: 0, date: Date.now() - (kind === 'expired' ? 3_600_000 : 0), durationMs: 60_000 },
  }
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

async function readStream(driver: Driver, from: string, range?: { start: number; end: number }) {
  const stream = await driver.stream(from, range && { range })
  if (!stream) return undefined
  let content = ''
  for await (const chunk of stream.body) content += chunk.toString()
  return [stream.object.size, content]
}

const shown = (listed: readonly Listed[]) => listed.map(({ key: of, object }) => [of, object.size])

/** One kind of operation: its arguments, and what it does with them. */
function kind<T>(
  verb: string,
  model: { [K in keyof T]: fc.Arbitrary<T[K]> },
  run: (driver: Driver, values: T) => Promise<unknown>,
) {
  return fc.record(model).map(
    (values): Operation =>
      ({
        run: (driver) => run(driver, values),
        [fc.toStringMethod]: () => `${verb} ${JSON.stringify(values)}`,
      }) as Operation,
  )
}

const operation: fc.Arbitrary<Operation> = fc.oneof(
  kind('write', { key, text, ifAbsent: fc.boolean(), lease }, (driver, values) =>
    driver.write(values.key, Buffer.from(values.text), {
      ifAbsent: values.ifAbsent,
      ...leaseOptions(values.lease),
    }),
  ),
  kind('upload', { key, texts, lease, isKept: fc.boolean() }, async (driver, values) => {
    const upload = await driver.upload(values.key, {})
    try {
      for (const chunk of values.texts) await upload.write(Buffer.from(chunk))
      if (values.isKept) await upload.complete(leaseOptions(values.lease))
    } finally {
      await upload.abort()
    }
  }),
  kind('append', { offset: fc.constantFrom(0, 5), texts }, async (driver, values) => {
    const append = await driver.append('c/', values.offset)
    for (const chunk of values.texts) await append.write(Buffer.from(chunk))
    return shown(await append.close())
  }),
  kind('compose', { prefix, key, lease, changed: fc.option(key) }, async (driver, values) => {
    const sources = await collect(driver.list(values.prefix))
    if (values.changed !== null) await driver.write(values.changed, Buffer.from('changed'))
    return driver.compose(sources, values.key, leaseOptions(values.lease))
  }),
  kind('remove', { keys: fc.array(key, { maxLength: 4 }), lease }, (driver, values) =>
    driver.remove(values.keys, leaseOptions(values.lease)),
  ),
  kind('read', { key, maxBytes: fc.constantFrom(3, 100) }, async (driver, { key: from, maxBytes }) =>
    (await driver.read(from, { maxBytes }))?.toString(),
  ),
  kind('stat', { key }, async (driver, values) => (await driver.stat(values.key)).object?.size),
  kind('stream', { key }, (driver, values) => readStream(driver, values.key)),
  kind(
    'range',
    { key, start: fc.nat(12), length: fc.integer({ min: 1, max: 12 }) },
    async (driver, values) => {
      const size = (await driver.stat(values.key)).object?.size ?? 0
      const end = values.start + values.length - 1
      return end < size ? readStream(driver, values.key, { start: values.start, end }) : 'out of range'
    },
  ),
  kind('list', { prefix, after }, async (driver, values) =>
    shown(await collect(driver.list(values.prefix, { after: values.after }))),
  ),
  kind('names', { folder, after }, (driver, values) =>
    collect(driver.listNames(values.folder, { after: values.after })),
  ),
)

async function outcomeOf(driver: Driver, { run }: Operation): Promise<unknown> {
  try {
    return await run(driver)
  } catch (error) {
    return `failed: ${(error as Error).name}`
  }
}

async function contentOf(driver: Driver): Promise<unknown[]> {
  const listed = await collect(driver.list(''))
  return Promise.all(listed.map(async (of) => [of.key, (await driver.read(of.key))?.toString()]))
}

test('random operations have the same outcomes on a file system as in memory', async () => {
  const seed = Number(process.env['STOWAGE_TEST_SEED'] ?? Date.now() % 2 ** 31)
  console.log(`filesystem properties: STOWAGE_TEST_SEED=${seed}`)
  const step = fc.tuple(operation, fc.boolean())
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40, size: 'max' }), async (steps) => {
      const root = await mkdtemp(join(tmpdir(), 'stowage-properties-'))
      try {
        const memory = memoryDriver()
        const drivers = [await filesystemDriver({ root }), await filesystemDriver({ root })] as const
        for (const [next, isSecond] of steps) {
          const expected = await outcomeOf(memory, next)
          expect(await outcomeOf(drivers[isSecond ? 1 : 0], next)).toEqual(expected)
        }
        expect(await contentOf(drivers[0])).toEqual(await contentOf(memory))
        expect(await readdir(join(root, 'stowage/tmp'))).toEqual([])
        expect(await readdir(join(root, 'stowage/gc/tmp/0000000000'))).toEqual([])
      } finally {
        await rm(root, { recursive: true })
      }
    }),
    { seed, numRuns: 100, endOnFailure: false },
  )
}, 120_000)
