/** kill -9 of a real server before and after each storage operation of a push, on a real S3 server. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { setTimeout as delay } from 'node:timers/promises'
import pMap from 'p-map'
import { blobOf, seededBytes } from '../support/images.ts'
import { credentialsEnv, startMinio, type S3Server } from '../support/s3-servers.ts'
import { killAndCheck, killsAt, operationsOf } from './kill-and-check.ts'
import { expectNothingLeftBelow } from './leftovers.ts'
import { wholePush, type Step } from './pushes.ts'
import type { Kill, S3Storage } from './server.ts'

const concurrency = 3
const mebibyte = 2 ** 20
const bucket = 'faults'
let minio: S3Server

beforeAll(async () => {
  minio = await startMinio()
  await minio.createBucket(bucket)
  Object.assign(process.env, credentialsEnv(minio))
}, 60_000)

afterAll(async () => {
  for (const name of Object.keys(credentialsEnv(minio))) Reflect.deleteProperty(process.env, name)
  await minio.stop()
})

function storageBelow(prefix: string): S3Storage {
  return {
    bucket,
    prefix,
    endpoint: minio.endpoint,
    region: minio.region,
    pathStyle: true,
    partBytes: 5 * mebibyte,
  }
}

const changes = new Set(['write', 'upload', 'complete', 'append', 'close', 'compose', 'remove'])

/** Around a read the storage is the same as around its neighbours, so only what changes something is disturbed. */
function changingOperations(operations: readonly string[]): number[] {
  return operations.flatMap((operation, index) =>
    changes.has(operation.split(' ')[0] ?? '') ? [index + 1] : [],
  )
}

/** @returns how many multipart uploads the deaths left, before they were cleaned up */
async function killEach(
  name: string,
  steps: readonly Step[],
  during: readonly number[] = [],
): Promise<number> {
  const operations = await operationsOf({ storage: storageBelow(`${name}/`), steps })
  const compose = operations.findIndex((operation) => operation.startsWith('compose')) + 1
  const at = changingOperations(operations)
  const kills: Kill[] = [
    ...killsAt(at),
    ...during.map((afterMs): Kill => ({ at: compose, when: 'during', afterMs })),
  ]
  const prefixes = kills.map(({ at, when, afterMs = 0 }) => `${name}-${at}-${when}-${afterMs}/`)
  await pMap(
    kills,
    (kill, index) => killAndCheck({ storage: storageBelow(prefixes[index] ?? ''), steps, kill }),
    { concurrency },
  )
  await delay(2_100)
  const left = await pMap(prefixes, (prefix) => expectNothingLeftBelow(minio, bucket, prefix), {
    concurrency,
  })
  const unfinished = left.reduce((sum, count) => sum + count, 0)
  console.log(
    `${name}: ${operations.length} operations, ${at.length} of them changes, ${kills.length} kills, ` +
      `${unfinished} multipart uploads cleaned up`,
  )
  return unfinished
}

describe('a server killed at any change of the storage loses nothing, shows nothing broken, leaves nothing', () => {
  test('in a whole push', async () => {
    await killEach('push', wholePush('each operation'))
  }, 300_000)

  test('in the push of a body of several parts, whose digest comes first or last', async () => {
    const bytes = seededBytes('several parts', 6 * mebibyte)
    const blob = blobOf(bytes, 'application/vnd.oci.image.layer.v1.tar')
    const name = 'library/app'
    // Some deaths do leave an upload: else this would show nothing.
    expect(await killEach('put', [{ kind: 'blob', name, blob, form: 'put' }])).toBeGreaterThan(0)
    // The storage joins the parts by a multipart upload of its own.
    const middles = [2, 5, 10, 20, 40]
    expect(await killEach('chunks', [{ kind: 'blob', name, blob, form: 'chunks' }], middles)).toBeGreaterThan(
      0,
    )
  }, 300_000)
})
