import assert from 'node:assert/strict'
import {
  assertSameBytes,
  collectStream,
  kibibyte,
  mebibyte,
  patternedBytes,
  uploadBytes,
  type ContractCase,
} from './case.ts'

export const streamCases: readonly ContractCase[] = [
  {
    name: 'a stream gives a part of an object: both ends of the range are included',
    async run({ driver, second, prefix }) {
      const key = `${prefix}a`
      const size = 3 * mebibyte + 11
      const bytes = patternedBytes(size)
      await uploadBytes(driver, key, bytes)
      const buffer = 512 * kibibyte
      const ranges: (readonly [number, number])[] = [
        [0, 0],
        [0, size - 1],
        [size - 1, size - 1],
        [1, size - 2],
        [0, buffer - 1],
        [0, buffer],
        [buffer - 1, buffer],
        [buffer, 2 * buffer - 1],
        [mebibyte + 5, 2 * mebibyte + 4],
      ]
      for (const [start, end] of ranges) {
        const part = await collectStream(second, key, { start, end })
        assertSameBytes(part, bytes.subarray(start, end + 1), `the range ${start}-${end} of ${size} bytes`)
      }
    },
  },
  {
    name: 'a stream of a part describes the whole object',
    async run({ driver, prefix }) {
      await driver.write(`${prefix}a`, patternedBytes(1000))
      const stream = await driver.stream(`${prefix}a`, { range: { start: 10, end: 19 } })
      assert.ok(stream, 'a range of an object is absent')
      for await (const chunk of stream.body) assert.equal(chunk.length, 10)
      assert.equal(
        stream.object.size,
        1000,
        'the stream of a part tells the size of the part as that of the object',
      )
      assert.equal(stream.object.version, (await driver.stat(`${prefix}a`)).object?.version)
    },
  },
  {
    name: 'a range of an absent object is absent',
    async run({ driver, prefix }) {
      assert.equal(await driver.stream(`${prefix}a`, { range: { start: 0, end: 0 } }), undefined)
    },
  },
  {
    name: 'many streams that are ended early leave the driver working',
    async run({ driver, prefix }) {
      const key = `${prefix}a`
      const bytes = patternedBytes(6 * mebibyte)
      await uploadBytes(driver, key, bytes)
      for (let round = 0; round < 100; round++) {
        const stream = await driver.stream(key)
        assert.ok(stream, 'an object is absent')
        for await (const chunk of stream.body) {
          assert.ok(
            chunk.equals(bytes.subarray(0, chunk.length)),
            'a stream begins with other bytes than the object',
          )
          break
        }
      }
      assertSameBytes(await collectStream(driver, key), bytes, 'an object whose streams were ended early')
    },
  },
  {
    name: 'an aborted signal ends a stream with an error',
    async run({ driver, prefix }) {
      const key = `${prefix}a`
      await uploadBytes(driver, key, patternedBytes(16 * mebibyte))
      const caller = new AbortController()
      const stream = await driver.stream(key, { signal: caller.signal })
      let received = 0
      const read = async () => {
        for await (const chunk of stream?.body ?? []) {
          received += chunk.length
          caller.abort(new Error('the client has gone'))
        }
      }
      await assert.rejects(
        read(),
        `a stream went on to its end (${received} bytes) after its signal was aborted`,
      )
    },
  },
  {
    name: 'a stream that began before its object was replaced gives one content, never a mixture',
    async run({ driver, second, prefix }) {
      const key = `${prefix}a`
      const old = patternedBytes(6 * mebibyte, 7)
      await uploadBytes(driver, key, old)
      const stream = await driver.stream(key)
      assert.ok(stream, 'an object is absent')
      await uploadBytes(second, key, patternedBytes(6 * mebibyte, 8))
      const chunks: Buffer[] = []
      try {
        for await (const chunk of stream.body) chunks.push(Buffer.from(chunk))
      } catch {
        return // Failing is allowed: the reader knows. What must not be is a mixture that looks whole.
      }
      assertSameBytes(Buffer.concat(chunks), old, 'the stream of an object that was replaced meanwhile')
    },
  },
]
