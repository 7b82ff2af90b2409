import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals'
import type { Driver } from '../../src/storage/driver.ts'
import { memoryDriver } from '../../src/storage/memory.ts'
import { probeStorage } from '../../src/storage/probe.ts'
import { s3Driver } from '../../src/storage/s3.ts'
import { startFaultyProxy, type FaultyProxy } from '../support/faulty-proxy.ts'
import { credentialsEnv, startMinio, type S3Server } from '../support/s3-servers.ts'

const allHonoured = {
  createIfAbsent: true,
  listAfterWrite: true,
  ranges: true,
  uploads: true,
  removal: true,
  faults: [],
}

let server: S3Server
let proxy: FaultyProxy
let driver: Driver

beforeAll(async () => {
  server = await startMinio()
  Object.assign(process.env, credentialsEnv(server))
  await server.createBucket('probe')
  proxy = await startFaultyProxy(server)
  const { region } = server
  driver = s3Driver({ bucket: 'probe', endpoint: proxy.endpoint, region, pathStyle: true })
}, 60_000)

afterEach(async () => {
  proxy.behave()
  expect(await Array.fromAsync(driver.list(''))).toEqual([])
})

afterAll(async () => {
  await driver.close?.()
  await proxy.stop()
  await server.stop()
})

test('finds nothing amiss on a storage that honours what is asked of it, and leaves nothing behind', async () => {
  expect(await probeStorage(driver)).toEqual(allHonoured)
  const memory = memoryDriver()
  expect(await probeStorage(memory)).toEqual(allHonoured)
  expect(await Array.fromAsync(memory.list(''))).toEqual([])
})

test('catches a backend that ignores create-if-absent', async () => {
  proxy.misbehave({ does: { ignoreCondition: true } })
  const { createIfAbsent, faults, ...rest } = await probeStorage(driver)
  expect(createIfAbsent).toBe(false)
  expect(faults).toEqual([expect.stringMatching(/ignores create-if-absent.*Garbage collection will not run/)])
  expect(Object.values(rest)).toEqual([true, true, true, true])
})

test('catches a backend that does not remove what it says it has removed', async () => {
  const empty = '<?xml version="1.0" encoding="UTF-8"?><DeleteResult></DeleteResult>'
  proxy.misbehave({
    matches: 'DeleteObjects',
    times: 1,
    does: { answer: { status: 200, code: 'none', body: empty, headers: { date: new Date().toUTCString() } } },
  })
  expect(await probeStorage(driver)).toMatchObject({ removal: false, createIfAbsent: true })
})

test('throws where the storage cannot be used at all', async () => {
  proxy.misbehave({ does: { answer: { status: 403, code: 'AccessDenied' } } })
  await expect(probeStorage(driver)).rejects.toThrow(/s3:GetObject/)
})
