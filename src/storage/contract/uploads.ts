import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import type { UploadHandle } from '../driver.ts'
import {
  assertInvisible,
  assertSameBytes,
  collectNames,
  collectStream,
  mebibyte,
  patternedBytes,
  uploadBytes,
  writeInChunks,
  type ContractCase,
  type ContractContext,
} from './case.ts'

const sizes = [
  0,
  1,
  5 * mebibyte - 1,
  5 * mebibyte,
  5 * mebibyte + 1,
  8 * mebibyte,
  16 * mebibyte,
  20 * mebibyte + 3,
]

/** Begins an upload, writes 20 MiB, and gives what was to be recorded of it. */
async function beginUpload({ driver }: ContractContext, key: string) {
  const handles: UploadHandle[] = []
  const upload = await driver.upload(key, {
    record: async (handle) => {
      handles.push(handle)
    },
  })
  await writeInChunks(upload, patternedBytes(20 * mebibyte), mebibyte)
  return { upload, handles }
}

/**
 * Parts may be on their way when a write returns, and a part that arrives after an abort may bring the upload back:
 * nobody can tell from outside. What is aborted by another process has been dead for long, so some time is given.
 */
const sentParts = () => delay(2_000)

/** The storage's own time, `offsetMs` from now. */
async function storageTime({ driver, prefix }: ContractContext, offsetMs: number): Promise<number> {
  return (await driver.stat(`${prefix}clock`)).date + offsetMs
}

export const uploadCases: readonly ContractCase[] = [
  ...sizes.flatMap((size) =>
    [true, false].map((isSizeKnown) => ({
      name: `an upload of ${size} bytes, its size ${isSizeKnown ? 'known' : 'unknown'}, is stored whole`,
      async run({ driver, second, prefix }: ContractContext) {
        const bytes = patternedBytes(size, size + 3)
        const upload = await driver.upload(`${prefix}a/b`, isSizeKnown ? { size } : {})
        await writeInChunks(upload, bytes)
        await upload.complete()
        assertSameBytes(await collectStream(second, `${prefix}a/b`), bytes, `an upload of ${size} bytes`)
        const { object } = await second.stat(`${prefix}a/b`)
        assert.equal(object?.size, size, 'stat tells another size than was uploaded')
      },
    })),
  ),
  {
    name: 'the chunks of an upload may be of any size, one byte and many parts at once',
    async run({ driver, prefix }) {
      const bytes = patternedBytes(12 * mebibyte)
      const upload = await driver.upload(`${prefix}a`, {})
      await upload.write(Buffer.from(bytes.subarray(0, 1)))
      await upload.write(Buffer.alloc(0))
      await upload.write(Buffer.from(bytes.subarray(1, 11 * mebibyte)))
      await writeInChunks(upload, bytes.subarray(11 * mebibyte), 997)
      await upload.complete()
      assertSameBytes(await collectStream(driver, `${prefix}a`), bytes, 'an upload in uneven chunks')
    },
  },
  {
    name: 'an upload shows only once it is completed, and then at once and whole',
    async run(context) {
      const { second, prefix } = context
      const { upload } = await beginUpload(context, `${prefix}a/b`)
      await assertInvisible(context, `${prefix}a/b`, 'an upload that is not completed')
      assert.deepEqual(
        await collectNames(second, prefix),
        [],
        'an upload that is not completed shows among the names',
      )
      await upload.complete()
      const bytes = patternedBytes(20 * mebibyte)
      assertSameBytes(await collectStream(second, `${prefix}a/b`), bytes, 'a completed upload')
    },
  },
  {
    name: 'an upload leaves what is under its key alone until it is completed',
    async run(context) {
      const { driver, second, prefix } = context
      const old = Buffer.from('old')
      await driver.write(`${prefix}a`, old)
      const first = await beginUpload(context, `${prefix}a`)
      assertSameBytes(
        await second.read(`${prefix}a`),
        old,
        'an object behind an upload that is not completed',
      )
      await first.upload.abort()
      assertSameBytes(await second.read(`${prefix}a`), old, 'an object behind an aborted upload')
      await uploadBytes(driver, `${prefix}a`, Buffer.from('new'))
      assertSameBytes(await second.read(`${prefix}a`), Buffer.from('new'), 'an object replaced by an upload')
    },
  },
  ...[100, 20 * mebibyte].map((size) => ({
    name: `an aborted upload of ${size} bytes leaves nothing, and cannot be completed`,
    async run(context: ContractContext) {
      const upload = await context.driver.upload(`${context.prefix}a`, {})
      await writeInChunks(upload, patternedBytes(size))
      await upload.abort()
      await upload.abort()
      await assertInvisible(context, `${context.prefix}a`, 'an aborted upload')
      await assert.rejects(upload.complete(), 'an upload was completed after it was aborted')
      await assertInvisible(context, `${context.prefix}a`, 'an aborted upload')
    },
  })),
  ...[100, 12 * mebibyte].map((size) => ({
    name: `a completed upload of ${size} bytes stays, whoever aborts or completes it again`,
    async run(context: ContractContext) {
      const { driver, second, prefix } = context
      const bytes = patternedBytes(size)
      const handles: UploadHandle[] = []
      const upload = await driver.upload(`${prefix}a`, {
        record: async (handle) => {
          handles.push(handle)
        },
      })
      await writeInChunks(upload, bytes)
      await upload.complete()
      await upload.complete().catch(() => {
        // A second completion may fail or not; what counts is that the object stays as it is.
      })
      await upload.abort()
      const begunBefore = await storageTime(context, 60_000)
      for (const handle of [...handles, { key: `${prefix}a` }])
        await second.abortUpload(handle, { begunBefore })
      assertSameBytes(
        await collectStream(second, `${prefix}a`),
        bytes,
        'an upload that was aborted after its end',
      )
    },
  })),
  {
    name: 'an upload is recorded by its key before it exists, and by its id right after, in plain JSON',
    async run(context) {
      const { upload, handles } = await beginUpload(context, `${context.prefix}a`)
      await upload.abort()
      if (handles.length === 0) return // Nothing to clean up after a crash.
      assert.deepEqual(
        handles[0],
        { key: `${context.prefix}a` },
        'an upload is first recorded by something else',
      )
      assert.equal(handles.length, 2, 'an upload is recorded once before it exists and once after')
      assert.equal(handles[1]?.key, `${context.prefix}a`, 'the record of an upload names another key')
      assert.ok(handles[1]?.id, 'the second record of an upload has no id')
      assert.deepEqual(
        JSON.parse(JSON.stringify(handles)),
        handles,
        'the record of an upload is not plain JSON',
      )
    },
  },
  ...[0, 1].map((which) => ({
    name: `another process aborts an unfinished upload by what was recorded ${which === 0 ? 'before' : 'after'} it began`,
    async run(context: ContractContext) {
      const { second, prefix } = context
      const { upload, handles } = await beginUpload(context, `${prefix}a`)
      const handle = handles[which]
      if (handle) {
        await sentParts()
        const begunBefore = await storageTime(context, 60_000)
        await second.abortUpload(handle, { begunBefore })
        await second.abortUpload(handle, { begunBefore })
        await assert.rejects(
          upload.complete(),
          'an upload was completed after another process had aborted it',
        )
      }
      await upload.abort()
      await assertInvisible(context, `${prefix}a`, 'an upload that was aborted by another process')
    },
  })),
  {
    name: 'aborting by the key alone spares uploads that began later, and uploads to other keys',
    async run(context) {
      const { driver, second, prefix } = context
      const begunBefore = await storageTime(context, -60_000)
      const { upload } = await beginUpload(context, `${prefix}a`)
      await second.abortUpload({ key: `${prefix}a` }, { begunBefore })
      await second.abortUpload({ key: prefix + 'b' }, { begunBefore: await storageTime(context, 60_000) })
      await second.abortUpload({ key: `${prefix}a/` }, { begunBefore }).catch(() => {
        // No key: an error or nothing, as the driver likes.
      })
      await upload.complete()
      assertSameBytes(
        await collectStream(driver, `${prefix}a`),
        patternedBytes(20 * mebibyte),
        'a spared upload',
      )
    },
  },
  {
    name: 'an upload that cannot be recorded does not begin',
    async run(context) {
      const { driver, prefix } = context
      let isAsked = false
      const record = async () => {
        isAsked = true
        throw new Error('the upload could not be recorded')
      }
      const attempt = async () => {
        const upload = await driver.upload(`${prefix}a`, { record })
        try {
          await writeInChunks(upload, patternedBytes(20 * mebibyte), mebibyte)
          await upload.complete()
        } finally {
          await upload.abort()
        }
      }
      const result = await attempt().catch((error: unknown) => error)
      if (!isAsked) return // Nothing to clean up after a crash.
      assert.ok(
        result instanceof Error,
        'an upload went on that could not be recorded: a crash would leak it',
      )
      await assertInvisible(context, `${prefix}a`, 'an upload that could not begin')
    },
  },
  {
    name: 'uploads to one key at once do not mix: the object is one of them, whole',
    async run({ driver, second, prefix }) {
      const contents = [1, 2, 3, 4].map((seed) => patternedBytes(6 * mebibyte, seed))
      await Promise.all(
        contents.map((bytes, index) => uploadBytes(index % 2 ? second : driver, `${prefix}a`, bytes)),
      )
      const stored = await collectStream(driver, `${prefix}a`)
      assert.ok(
        contents.some((bytes) => stored?.equals(bytes)),
        'the object is none of the uploads to its key',
      )
    },
  },
]
