import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import type { Driver } from '../../src/storage/driver.ts'
import { s3Driver } from '../../src/storage/s3.ts'
import { contractCases, runContractCase } from '../../src/storage/verify-driver.ts'
import { credentialsEnv, startMinio, startVersitygw, type S3Server } from '../support/s3-servers.ts'

describe.each([
  ['MinIO', startMinio],
  ['versitygw', startVersitygw],
])('the contract of the drivers, on %s', (_, startServer) => {
  let server: S3Server
  let driver: Driver
  let second: Driver

  beforeAll(async () => {
    server = await startServer()
    Object.assign(process.env, credentialsEnv(server))
    const { endpoint, region } = server
    await server.createBucket('contract')
    const options = { bucket: 'contract', prefix: 'a/prefix', endpoint, region, pathStyle: true }
    driver = s3Driver(options)
    second = s3Driver(options)
  }, 60_000)

  afterAll(async () => {
    await driver.close?.()
    await second.close?.()
    await server.stop()
  })

  test.each(contractCases.map((each) => [each.name, each] as const))(
    '%s',
    async (_, each) => {
      await runContractCase(each, { driver, second, generation: 0 }, 'contract/')
      expect.assertions(0)
    },
    60_000,
  )
})
