import assert from 'node:assert/strict'
import { LeaseExpired } from '../driver.ts'
import {
  assertInvisible,
  assertSameBytes,
  collectListed,
  collectStream,
  expiredAgesMs,
  leaseOfAge,
  mebibyte,
  patternedBytes,
  validAgeMs,
  writeInChunks,
  type ContractCase,
} from './case.ts'

const late = 'was admitted after its lease was over: a process that slept could undo what happened meanwhile'

export const leaseCases: readonly ContractCase[] = [
  {
    name: 'a write within its lease is stored',
    async run(context) {
      const { driver, second, prefix } = context
      const lease = await leaseOfAge(context, validAgeMs)
      await driver.write(`${prefix}a/b`, Buffer.from('one'), { lease })
      await driver.write(`${prefix}a/b`, Buffer.from('two'), { lease: await leaseOfAge(context, 0) })
      assertSameBytes(await second.read(`${prefix}a/b`), Buffer.from('two'), 'a write within its lease')
      await driver.write(`${prefix}a/c`, Buffer.from('new'), { lease, ifAbsent: true })
      assertSameBytes(await second.read(`${prefix}a/c`), Buffer.from('new'), 'a creation within its lease')
    },
  },
  {
    name: 'a write after its lease is refused, and nothing changes',
    async run(context) {
      const { driver, prefix } = context
      await driver.write(`${prefix}old`, Buffer.from('old'))
      for (const ageMs of expiredAgesMs) {
        const lease = await leaseOfAge(context, ageMs)
        await assert.rejects(
          driver.write(`${prefix}a/b`, Buffer.from('a'), { lease }),
          LeaseExpired,
          `a write ${late}`,
        )
        await assertInvisible(context, `${prefix}a/b`, 'a write after its lease')
        const create = driver.write(`${prefix}a/c`, Buffer.from('a'), { lease, ifAbsent: true })
        await assert.rejects(create, LeaseExpired, `a creation ${late}`)
        await assertInvisible(context, `${prefix}a/c`, 'a creation after its lease')
        await assert.rejects(driver.write(`${prefix}old`, Buffer.from('new'), { lease }), LeaseExpired)
        assertSameBytes(
          await driver.read(`${prefix}old`),
          Buffer.from('old'),
          'an object behind a late overwrite',
        )
      }
    },
  },
  ...[100, 12 * mebibyte].map((size) => ({
    name: `an upload of ${size} bytes is refused after its lease, and can be completed with a newer one`,
    async run(context: Parameters<ContractCase['run']>[0]) {
      const { driver, second, prefix } = context
      const bytes = patternedBytes(size)
      const upload = await driver.upload(`${prefix}a/b`, {})
      await writeInChunks(upload, bytes)
      for (const ageMs of expiredAgesMs) {
        const lease = await leaseOfAge(context, ageMs)
        await assert.rejects(upload.complete({ lease }), LeaseExpired, `the completion of an upload ${late}`)
        await assertInvisible(context, `${prefix}a/b`, 'an upload completed after its lease')
      }
      await upload.complete({ lease: await leaseOfAge(context, validAgeMs) })
      assertSameBytes(
        await collectStream(second, `${prefix}a/b`),
        bytes,
        'an upload completed with a newer lease',
      )
    },
  })),
  {
    name: 'an upload that was refused after its lease can be aborted',
    async run(context) {
      const { driver, prefix } = context
      const upload = await driver.upload(`${prefix}a`, {})
      await upload.write(Buffer.from('a'))
      await assert.rejects(
        upload.complete({ lease: await leaseOfAge(context, expiredAgesMs[0]) }),
        LeaseExpired,
      )
      await upload.abort()
      await assertInvisible(context, `${prefix}a`, 'an aborted upload')
    },
  },
  ...[100, 6 * mebibyte].map((size) => ({
    name: `a composition from sources of ${size} bytes is refused after its lease, and made within it`,
    async run(context: Parameters<ContractCase['run']>[0]) {
      const { driver, prefix } = context
      await driver.write(`${prefix}sources/1`, patternedBytes(size, 1))
      await driver.write(`${prefix}sources/2`, patternedBytes(size, 2))
      const both = await collectListed(driver, `${prefix}sources/`)
      const whole = Buffer.concat([patternedBytes(size, 1), patternedBytes(size, 2)])
      for (const [sources, bytes] of [
        [both.slice(0, 1), patternedBytes(size, 1)] as const,
        [both, whole] as const,
      ]) {
        for (const ageMs of expiredAgesMs) {
          const lease = await leaseOfAge(context, ageMs)
          await assert.rejects(
            driver.compose(sources, `${prefix}a`, { lease }),
            LeaseExpired,
            `a composition ${late}`,
          )
          await assertInvisible(context, `${prefix}a`, 'a composition after its lease')
        }
        await driver.compose(sources, `${prefix}a`, { lease: await leaseOfAge(context, validAgeMs) })
        assertSameBytes(await collectStream(driver, `${prefix}a`), bytes, 'a composition within its lease')
        await driver.remove([`${prefix}a`])
      }
    },
  })),
  {
    name: 'a removal has an effect within its lease, and none after it',
    async run(context) {
      const { driver, second, prefix } = context
      const keys = [`${prefix}a/b`, `${prefix}a/c`]
      for (const key of keys) await driver.write(key, Buffer.from('a'))
      for (const ageMs of expiredAgesMs) {
        const { date } = await leaseOfAge(context, ageMs)
        const removal = driver.remove(keys, { lease: { date, durationMs: 60_000 } })
        await assert.rejects(removal, LeaseExpired, `a removal ${late}`)
        for (const key of keys)
          assertSameBytes(await second.read(key), Buffer.from('a'), 'an object removed too late')
      }
      const { date } = await leaseOfAge(context, 0)
      await driver.remove([...keys, `${prefix}absent`], { lease: { date, durationMs: 60_000 } })
      for (const key of keys) await assertInvisible(context, key, 'an object removed within the lease')
    },
  },
]
