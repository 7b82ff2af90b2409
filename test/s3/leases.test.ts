import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals'
import { randomUUID } from 'node:crypto'
import { LeaseExpired, type Driver, type WriteLease } from '../../src/storage/driver.ts'
import { s3Driver, type S3Options } from '../../src/storage/s3.ts'
import { startFaultyProxy, type FaultyProxy } from '../support/faulty-proxy.ts'
import { credentialsEnv, startMinio, startVersitygw, type S3Server } from '../support/s3-servers.ts'

const minuteMs = 60_000
const quarterMs = 15 * minuteMs
const bytes = Buffer.from('bytes')
const large = Buffer.alloc(9 * 1024 * 1024, 'large')

describe.each([
  ['MinIO', startMinio],
  ['versitygw', startVersitygw],
])('leases on %s', (_, startServer) => {
  let server: S3Server
  let proxy: FaultyProxy
  let driver: Driver
  let options: S3Options

  beforeAll(async () => {
    server = await startServer()
    Object.assign(process.env, credentialsEnv(server))
    await server.createBucket('leases')
    proxy = await startFaultyProxy(server)
    const { region } = server
    options = { bucket: 'leases', endpoint: proxy.endpoint, region, pathStyle: true, retryDelayMs: 10 }
    driver = s3Driver(options)
  }, 60_000)

  afterEach(() => {
    proxy.behave()
    proxy.forget()
    jest.restoreAllMocks()
  })

  afterAll(async () => {
    await driver.close?.()
    await proxy.stop()
    await server.stop()
  })

  /** A lease that began this long ago, by the storage's clock. */
  async function leaseOf(ageMs: number, durationMs = quarterMs): Promise<WriteLease> {
    return { generation: 1, date: (await driver.stat('clock')).date - ageMs, durationMs }
  }

  async function uploadOf(key: string, content: Buffer) {
    const upload = await driver.upload(key, {})
    await upload.write(Buffer.from(content))
    return upload
  }

  test.each([
    ['15 minutes, which a signature in the headers has', quarterMs],
    ['90 seconds, signed in the query', 90_000],
  ])('a write is stored within its lease of %s, and refused after it', async (__, durationMs) => {
    const key = `${randomUUID()}/a`
    await driver.write(key, bytes, {
      lease: await leaseOf(durationMs - minuteMs, durationMs),
      ifAbsent: true,
    })
    expect(await driver.read(key)).toEqual(bytes)
    const lease = await leaseOf(durationMs + minuteMs, durationMs)
    await expect(driver.write(`${key}/late`, bytes, { lease })).rejects.toThrow(LeaseExpired)
    await expect(driver.write(key, Buffer.from('late'), { lease })).rejects.toThrow(LeaseExpired)
    expect((await driver.stat(`${key}/late`)).object).toBeUndefined()
    expect(await driver.read(key)).toEqual(bytes)
  })

  test.each([
    ['small', bytes],
    ['large', large],
  ])('a %s upload that was refused after its lease is completed with a newer one', async (__, content) => {
    const key = `${randomUUID()}/a`
    const upload = await uploadOf(key, content)
    for (const durationMs of [quarterMs, 90_000]) {
      const lease = await leaseOf(durationMs + minuteMs, durationMs)
      await expect(upload.complete({ lease })).rejects.toThrow(LeaseExpired)
      expect((await driver.stat(key)).object).toBeUndefined()
    }
    await upload.complete({ lease: await leaseOf(minuteMs, 90_000) })
    expect((await driver.stat(key)).object?.size).toBe(content.length)
  })

  test('a composition signed in the query is made within its lease, and refused after it', async () => {
    const folder = `${randomUUID()}/`
    await driver.write(`${folder}a`, large.subarray(0, 6 * 1024 * 1024))
    await driver.write(`${folder}b`, large.subarray(6 * 1024 * 1024))
    const both = await Array.fromAsync(driver.list(folder))
    for (const sources of [both, both.slice(0, 1)]) {
      const lease = await leaseOf(3 * minuteMs, 90_000)
      await expect(driver.compose(sources, `${folder}c`, { lease })).rejects.toThrow(LeaseExpired)
      expect((await driver.stat(`${folder}c`)).object).toBeUndefined()
      await driver.compose(sources, `${folder}c`, { lease: await leaseOf(0, 90_000) })
      expect((await driver.stat(`${folder}c`)).object?.size).toBe(
        sources.length === 2 ? large.length : 6 * 1024 * 1024,
      )
      await driver.remove([`${folder}c`])
    }
  })

  test('every attempt of a write has the date of the lease', async () => {
    const key = `${randomUUID()}/a`
    const lease = await leaseOf(minuteMs)
    proxy.misbehave({
      matches: 'PutObject',
      times: 2,
      does: { answer: { status: 500, code: 'InternalError' } },
    })
    await driver.write(key, bytes, { lease })
    const dates = proxy.requests.filter(({ operation }) => operation === 'PutObject')
    const expected = new Date(lease.date).toISOString().replaceAll(/[-:]|\.\d+/g, '')
    expect(dates.map(({ headers }) => headers['x-amz-date'])).toEqual([expected, expected, expected])
  })

  test('a removal has an effect within its lease, and none after it', async () => {
    const keys = Array.from({ length: 20 }, (__, index) => `${randomUUID()}/${index}`)
    for (const key of keys) await driver.write(key, bytes)
    const late = await leaseOf(2 * minuteMs, minuteMs)
    await expect(driver.remove(keys, { lease: late })).rejects.toThrow(LeaseExpired)
    expect((await driver.stat(keys[0] ?? '')).object).toBeDefined()
    await driver.remove([...keys, 'never/was'], { lease: await leaseOf(0, minuteMs) })
    for (const key of keys) expect((await driver.stat(key)).object).toBeUndefined()
  })

  test.each([
    ['is answered the second time', 1],
    ['is never answered', Infinity],
  ])('a removal that %s comes back only when no attempt can take effect any more', async (__, times) => {
    const key = `${randomUUID()}/a`
    await driver.write(key, bytes)
    const lease = await leaseOf(minuteMs - 2_000, minuteMs)
    proxy.misbehave({ matches: 'DeleteObject', times, does: { cut: 'after' } })
    const removal = driver.remove([key], { lease })
    await (times === 1 ? removal : expect(removal).rejects.toMatchObject({ name: 'StorageUnavailable' }))
    expect((await driver.stat(key)).date).toBeGreaterThan(lease.date + lease.durationMs)
  })

  test.each([
    ['behind', -5],
    ['ahead', 5],
  ])("a machine's clock that is hours %s does no harm, with leases and without", async (__, hours) => {
    const { now } = Date
    jest.spyOn(Date, 'now').mockImplementation(() => now() + hours * 60 * minuteMs)
    for (const first of ['stat', 'read', 'write', 'list', 'isRepeatable'] as const) {
      const wrong = s3Driver(options)
      const key = `${randomUUID()}/a`
      if (first === 'stat') expect((await wrong.stat(key)).object).toBeUndefined()
      if (first === 'read') expect(await wrong.read(key)).toBeUndefined()
      if (first === 'list') expect(await Array.fromAsync(wrong.list(key))).toEqual([])
      if (first === 'isRepeatable') await wrong.write(key, bytes, { isRepeatable: false })
      await wrong.write(key, bytes)
      const { date } = await wrong.stat(key)
      expect(Math.abs(date - now())).toBeLessThan(minuteMs)
      await wrong.write(key, bytes, { lease: { generation: 1, date, durationMs: quarterMs } })
      const late = { generation: 1, date: date - quarterMs - minuteMs, durationMs: quarterMs }
      await expect(wrong.write(key, bytes, { lease: late })).rejects.toThrow(LeaseExpired)
      await wrong.remove([key], { lease: { date, durationMs: minuteMs } })
      expect((await wrong.stat(key)).object).toBeUndefined()
      await wrong.close?.()
    }
  })

  test('a URL for a client works also where the clock of this machine is wrong', async () => {
    const key = `${randomUUID()}/a`
    await driver.write(key, bytes)
    const { now } = Date
    jest.spyOn(Date, 'now').mockImplementation(() => now() - 5 * 60 * minuteMs)
    const wrong = s3Driver(options)
    await wrong.stat(key)
    const url = (await wrong.presign?.(key, 'GET', 60)) ?? ''
    const response = await fetch(url)
    expect(response.status).toBe(200)
    expect(await response.text()).toBe('bytes')
    expect((await fetch(url, { method: 'PUT', body: 'x' })).status).toBe(403)
    await wrong.close?.()
  })
})
