import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals'
import { randomUUID } from 'node:crypto'
import { systemClock } from '../../src/clock.ts'
import type { Driver } from '../../src/storage/driver.ts'
import { s3Driver, type S3Options } from '../../src/storage/s3.ts'
import { startFaultyProxy, type FaultyProxy, type ProxiedRequest } from '../support/faulty-proxy.ts'
import { credentialsEnv, startMinio, type S3Server } from '../support/s3-servers.ts'

const minuteMs = 60_000

let server: S3Server
let proxy: FaultyProxy
let options: S3Options
let driver: Driver
/** How far the driver's clocks are ahead of the machine's. */
let aheadMs = 0

beforeAll(async () => {
  server = await startMinio()
  Object.assign(process.env, credentialsEnv(server))
  await server.createBucket('reads')
  proxy = await startFaultyProxy(server)
  const clock = {
    ...systemClock,
    now: () => systemClock.now() + Math.min(aheadMs, minuteMs),
    monotonic: () => systemClock.monotonic() + aheadMs,
  }
  options = { bucket: 'reads', endpoint: proxy.endpoint, region: server.region, pathStyle: true, clock }
  driver = s3Driver(options)
}, 60_000)

afterEach(() => {
  proxy.behave()
  proxy.forget()
  aheadMs = 0
})

afterAll(async () => {
  await driver.close?.()
  await proxy.stop()
  await server.stop()
})

const signatureOf = (request: ProxiedRequest | undefined) => request?.query.get('X-Amz-Signature')

test('one signature serves the reads of a key until shortly before it ends', async () => {
  const key = `${randomUUID()}/a b'(c)*!~+%2F`.replaceAll(' ', '_')
  await driver.write(key, Buffer.from('content'))
  for (const now of [0, 0, 13 * minuteMs, 14.5 * minuteMs]) {
    aheadMs = now
    expect((await driver.read(key))?.toString()).toBe('content')
  }
  const reads = proxy.requests.filter(({ operation }) => operation === 'GetObject')
  const [first, second, third, renewed] = reads.map(signatureOf)
  expect(reads.length).toBe(4)
  expect(first).toMatch(/^[0-9a-f]{64}$/)
  expect([second, third]).toEqual([first, first])
  expect(renewed).not.toBe(first)
})

test('what was written or removed meanwhile is seen at once', async () => {
  const key = `${randomUUID()}/a`
  expect(await driver.read(key)).toBeUndefined()
  await driver.write(key, Buffer.from('one'))
  expect((await driver.read(key))?.toString()).toBe('one')
  await driver.remove([key])
  expect(await driver.read(key)).toBeUndefined()
})

test('a signature that is refused, as after a change of credentials, is made anew', async () => {
  const key = `${randomUUID()}/a`
  await driver.write(key, Buffer.from('content'))
  await driver.read(key)
  proxy.forget()
  proxy.misbehave({ matches: 'GetObject', times: 1, does: { answer: { status: 403, code: 'ExpiredToken' } } })
  expect((await driver.read(key))?.toString()).toBe('content')
  expect(proxy.requests.map(signatureOf).map((signature) => typeof signature)).toEqual(['string', 'object'])
})

test('a bucket that is not there is an error, never an absent object', async () => {
  const other = s3Driver({ ...options, bucket: 'no-such-bucket' })
  await expect(other.read('a')).rejects.toThrow(/NoSuchBucket/)
  await other.close?.()
})

test('a 404 that the storage did not write is an error, never an absent object', async () => {
  proxy.misbehave({
    matches: 'GetObject',
    does: { answer: { status: 404, code: '', body: '<h1>Not found</h1>' } },
  })
  await expect(driver.read('a')).rejects.toThrow(/404/)
})
