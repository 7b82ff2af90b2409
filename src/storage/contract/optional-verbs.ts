import assert from 'node:assert/strict'
import { assertSameBytes, patternedBytes, type ContractCase } from './case.ts'

/** Cases of verbs that a driver may lack: they pass where the verb is missing. */
export const optionalCases: readonly ContractCase[] = [
  {
    name: 'a presigned URL gives the object to who has it, by its method alone',
    async run({ driver, prefix, fetch: request = fetch }) {
      const key = `${prefix}folder/a%2B~+&=`
      const bytes = patternedBytes(5000)
      await driver.write(key, bytes)
      const [get, head] = [await driver.presign?.(key, 'GET', 60), await driver.presign?.(key, 'HEAD', 60)]
      if (get === undefined || head === undefined) return
      const whole = await request(get)
      assert.equal(whole.status, 200, 'a presigned URL is not answered')
      assertSameBytes(Buffer.from(await whole.arrayBuffer()), bytes, 'what a presigned URL gives')
      const part = await request(get, { headers: { range: 'bytes=10-19' } })
      assertSameBytes(
        Buffer.from(await part.arrayBuffer()),
        bytes.subarray(10, 20),
        'a range of a presigned URL',
      )
      const sizeOnly = await request(head, { method: 'HEAD' })
      assert.equal(sizeOnly.headers.get('content-length'), '5000', 'a presigned HEAD tells no size')
      for (const method of ['PUT', 'DELETE']) {
        const answer = await request(get, { method, ...(method === 'PUT' && { body: 'overwritten' }) })
        assert.ok(answer.status >= 400, `a URL presigned for GET was taken for ${method}`)
        await answer.body?.cancel()
      }
      assertSameBytes(await driver.read(key), bytes, 'an object whose presigned URL was misused')
    },
  },
  {
    name: 'removals of a round can be revoked, once and again, also of a round that never was',
    async run({ driver, second, prefix }) {
      await driver.write(`${prefix}a`, Buffer.from('a'))
      for (const side of [driver, second, driver]) await side.revokeRemovals?.('9999999999-0000000001')
      assertSameBytes(
        await driver.read(`${prefix}a`),
        Buffer.from('a'),
        'an object outside of a revoked round',
      )
    },
  },
  {
    name: 'sweeping temporary data spares uploads and appends that are under way',
    async run({ driver, second, prefix }) {
      const bytes = patternedBytes(3_000_000)
      const upload = await driver.upload(`${prefix}a`, {})
      const append = await driver.append(`${prefix}data/`, 0)
      for (const target of [upload, append]) await target.write(Buffer.from(bytes))
      await second.sweepTemporary?.(60_000)
      await upload.complete()
      await append.close()
      assertSameBytes(await driver.read(`${prefix}a`), bytes, 'an upload during a sweep of temporary data')
    },
  },
]
