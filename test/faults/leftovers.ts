/** What must be gone when the sessions of a server that died have expired. */
import { expect } from '@jest/globals'
import { ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3'
import { readdir } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { systemClock } from '../../src/clock.ts'
import { expireUploads } from '../../src/registry/upload-expiry.ts'
import { keysOf } from '../support/registry.ts'
import type { S3Server } from '../support/s3-servers.ts'
import { openStorage } from './server.ts'

const dayMs = 86_400_000

/** Two days later, by the clock of the file system. */
export async function expectNothingLeftIn(root: string): Promise<void> {
  const later = { ...systemClock, now: () => systemClock.now() + 2 * dayMs }
  const driver = await openStorage({ root }, later)
  await expireUploads({ driver, expiryMs: dayMs })
  expect(await keysOf(driver, 'stowage/uploads/')).toEqual([])
  const left = await readdir(join(root, 'stowage'), { recursive: true, withFileTypes: true })
  const files = left
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
  const kept = /^stowage\/(gc\/claim|referrers-complete|repositories\/.*\/_referrers\/.*)$/
  expect(files.filter((path) => !kept.test(path))).toEqual([])
  await driver.close?.()
}

/**
 * Everything that is older than a second, which is how exactly S3 knows.
 * @returns how many unfinished multipart uploads there were before
 */
export async function expectNothingLeftBelow(
  server: S3Server,
  bucket: string,
  prefix: string,
): Promise<number> {
  const { endpoint, region, accessKeyId, secretAccessKey } = server
  const credentials = { accessKeyId, secretAccessKey }
  const client = new S3Client({ endpoint, region, forcePathStyle: true, credentials })
  const driver = await openStorage({ bucket, prefix, endpoint, region, pathStyle: true })
  const countUnfinished = async () => {
    let count = 0
    // By exact key: MinIO lists unfinished uploads in no other way.
    for (const key of await keysOf(driver, 'docker/registry/v2/blobs/')) {
      const command = new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: `${prefix}${key}` })
      count += (await client.send(command)).Uploads?.length ?? 0
    }
    return count
  }
  try {
    const before = await countUnfinished()
    await expireUploads({ driver, expiryMs: 1_000 })
    expect(await keysOf(driver, 'stowage/uploads/')).toEqual([])
    expect(await countUnfinished()).toBe(0)
    return before
  } finally {
    await driver.close?.()
    client.destroy()
  }
}
