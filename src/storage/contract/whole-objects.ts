import assert from 'node:assert/strict'
import { PreconditionFailed } from '../driver.ts'
import {
  assertInvisible,
  assertSameBytes,
  collectListed,
  collectStream,
  mebibyte,
  patternedBytes,
  type ContractCase,
} from './case.ts'

/** What the nodes of a storage may differ by in their clocks. */
const clockToleranceMs = 30_000

export const wholeObjectCases: readonly ContractCase[] = [
  {
    name: 'an object that does not exist is undefined to every read, and no error',
    async run(context) {
      await assertInvisible(context, `${context.prefix}absent`, 'an object that was never written')
      await assertInvisible(
        context,
        `${context.prefix}no/such/folder`,
        'an object in a folder that was never written',
      )
    },
  },
  {
    name: 'what was written is read back whole, also when it is empty',
    async run({ driver, second, prefix }) {
      for (const size of [0, 1, 71, 64 * 1024, 64 * 1024 + 1, mebibyte, 5 * mebibyte]) {
        const key = `${prefix}size-${size}`
        const bytes = patternedBytes(size, size + 1)
        await driver.write(key, bytes)
        for (const side of [driver, second]) {
          assertSameBytes(await side.read(key), bytes, `an object of ${size} bytes`)
          assertSameBytes(await collectStream(side, key), bytes, `the stream of an object of ${size} bytes`)
        }
      }
    },
  },
  {
    name: 'write does not keep the memory it was given',
    async run({ driver, prefix }) {
      const bytes = Buffer.from('before')
      await driver.write(`${prefix}a`, bytes)
      bytes.write('after!')
      assertSameBytes(
        await driver.read(`${prefix}a`),
        Buffer.from('before'),
        'an object whose source was changed later',
      )
    },
  },
  {
    name: 'read refuses an object that is larger than maxBytes, and takes one of exactly that size',
    async run({ driver, prefix }) {
      const key = `${prefix}a`
      await driver.write(key, patternedBytes(1000))
      assert.equal((await driver.read(key, { maxBytes: 1000 }))?.length, 1000)
      await assert.rejects(
        driver.read(key, { maxBytes: 999 }),
        'read gave an object of 1,000 bytes to a caller that takes 999: one wrong object could fill the memory',
      )
    },
  },
  {
    name: 'read refuses an object over 16 MiB where nothing else is said',
    async run({ driver, prefix }) {
      const key = `${prefix}a`
      const upload = await driver.upload(key, {})
      for (let written = 0; written < 17; written++) await upload.write(Buffer.alloc(mebibyte))
      await upload.complete()
      await assert.rejects(driver.read(key), 'read gave an object of 17 MiB to a caller that takes 16')
      assert.equal((await driver.read(key, { maxBytes: 17 * mebibyte }))?.length, 17 * mebibyte)
    },
  },
  {
    name: 'a write replaces what was there, and its version',
    async run({ driver, second, prefix }) {
      const key = `${prefix}a`
      let before: string | undefined
      for (const text of ['one', 'two', 'three', 'eno']) {
        await driver.write(key, Buffer.from(text))
        assertSameBytes(await driver.read(key), Buffer.from(text), 'an overwritten object')
        assertSameBytes(await second.read(key), Buffer.from(text), 'an object overwritten by another process')
        const { object } = await second.stat(key)
        assert.ok(object, 'an overwritten object is absent to stat')
        assert.equal(object.size, text.length, 'stat tells the size of an older content')
        assert.notEqual(object.version, before, 'the version of an object did not change with its content')
        before = object.version
      }
    },
  },
  {
    name: 'stat, stream and list tell the same of an object',
    async run({ driver, second, prefix }) {
      const key = `${prefix}a/b`
      await driver.write(key, Buffer.from('content'))
      const fromStat = (await driver.stat(key)).object
      const stream = await second.stream(key)
      for await (const chunk of stream?.body ?? [])
        assert.ok(chunk.length > 0, 'a stream gave an empty chunk')
      const fromList = (await collectListed(second, prefix))[0]?.object
      assert.ok(fromStat && stream && fromList, 'an object is missing from stat, stream or list')
      for (const [verb, object] of [['stream', stream.object] as const, ['list', fromList] as const]) {
        assert.equal(object.size, fromStat.size, `${verb} tells another size than stat`)
        assert.equal(object.version, fromStat.version, `${verb} tells another version (ETag) than stat`)
        const apartMs = Math.abs(object.modified - fromStat.modified)
        assert.ok(apartMs <= 1000, `${verb} tells a modification time ${apartMs} ms apart from that of stat`)
      }
    },
  },
  {
    name: "stat tells the storage's own time, with and without an object, and it agrees with modification times",
    async run({ driver, prefix }) {
      const before = await driver.stat(`${prefix}a`)
      await driver.write(`${prefix}a`, Buffer.from('a'))
      const after = await driver.stat(`${prefix}a`)
      const { object } = after
      assert.ok(object, 'an object that was just written is absent')
      assert.ok(
        before.date > Date.UTC(2020, 0),
        'the storage tells no time in its answer about an absent object',
      )
      assert.ok(after.date >= before.date - 1000, "the storage's clock went backwards between two answers")
      assert.ok(
        object.modified >= before.date - clockToleranceMs && object.modified <= after.date + clockToleranceMs,
        `the storage's answers (${before.date}) and its modification times (${object.modified}) differ by over 30 s`,
      )
    },
  },
  {
    name: 'ifAbsent creates once: where the object exists nothing changes',
    async run({ driver, second, prefix }) {
      const key = `${prefix}folder/a`
      await driver.write(key, Buffer.from('first'), { ifAbsent: true })
      for (const side of [driver, second]) {
        await assert.rejects(
          side.write(key, Buffer.from('second'), { ifAbsent: true }),
          PreconditionFailed,
          'create-if-absent is not honoured: it replaced an object that exists. Collections cannot run here',
        )
      }
      assertSameBytes(await driver.read(key), Buffer.from('first'), 'an object that a second creator met')
      await driver.remove([key])
      await second.write(key, Buffer.from('again'), { ifAbsent: true })
      assertSameBytes(
        await driver.read(key),
        Buffer.from('again'),
        'an object that was removed and created again',
      )
    },
  },
  {
    name: 'a call whose signal was aborted fails, and a write leaves nothing',
    async run(context) {
      const { driver, prefix } = context
      const options = { signal: AbortSignal.abort(new Error('the caller has gone')) }
      const key = `${prefix}a`
      await assert.rejects(
        driver.write(key, Buffer.from('a'), options),
        'a write with an aborted signal was answered',
      )
      await assertInvisible(context, key, 'a write whose signal was aborted before it began')
      await driver.write(key, Buffer.from('a'))
      await assert.rejects(driver.read(key, options), 'a read with an aborted signal was answered')
    },
  },
]
