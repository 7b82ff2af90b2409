import { ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { randomUUID } from 'node:crypto'
import { PreconditionFailed, StorageUnavailable, type Driver, type Listed } from '../../src/storage/driver.ts'
import { s3Driver, type S3Options } from '../../src/storage/s3.ts'
import { startFaultyProxy, type FaultyProxy, type Misbehaviour } from '../support/faulty-proxy.ts'
import { credentialsEnv, startMinio, type S3Server } from '../support/s3-servers.ts'

const mebibyte = 1024 * 1024
const small = Buffer.from('a small object')
const large = Buffer.alloc(12 * mebibyte, 'large')

let server: S3Server
let proxy: FaultyProxy
/** Through the proxy. */
let driver: Driver
/** The same, without a second attempt. */
let impatient: Driver
/** Past the proxy: what is really there. */
let truth: Driver
let client: S3Client
let options: S3Options

beforeAll(async () => {
  server = await startMinio()
  Object.assign(process.env, credentialsEnv(server))
  await server.createBucket('faults')
  proxy = await startFaultyProxy(server)
  const { region } = server
  options = { bucket: 'faults', endpoint: proxy.endpoint, region, pathStyle: true, retryDelayMs: 10 }
  driver = s3Driver(options)
  impatient = s3Driver({ ...options, attempts: 1 })
  truth = s3Driver({ ...options, endpoint: server.endpoint })
  client = new S3Client({ endpoint: server.endpoint, region, forcePathStyle: true })
}, 60_000)

afterEach(() => {
  proxy.behave()
  proxy.forget()
})

afterAll(async () => {
  client.destroy()
  await driver.close?.()
  await impatient.close?.()
  await truth.close?.()
  await proxy.stop()
  await server.stop()
})

async function upload(key: string, bytes: Buffer): Promise<void> {
  const upload = await driver.upload(key, {})
  try {
    for (let at = 0; at < bytes.length; at += mebibyte) {
      await upload.write(Buffer.from(bytes.subarray(at, at + mebibyte)))
    }
    await upload.complete()
  } finally {
    await upload.abort()
  }
}

async function streamed(from: Driver, key: string): Promise<Buffer | undefined> {
  const stream = await from.stream(key)
  if (!stream) return undefined
  const chunks: Buffer[] = []
  for await (const chunk of stream.body) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}

async function listed(from: Driver, prefix: string): Promise<Listed[]> {
  return Array.fromAsync(from.list(prefix))
}

async function appended(key: string, bytes: Buffer): Promise<readonly Listed[]> {
  const append = await driver.append(key, 0)
  await append.write(Buffer.from(bytes))
  return append.close()
}

/** Uploads to a key that were neither completed nor aborted. */
async function unfinishedUploads(key: string): Promise<number> {
  const found = await client.send(new ListMultipartUploadsCommand({ Bucket: 'faults', Prefix: key }))
  return (found.Uploads ?? []).length
}

/** What must be true of a verb, whatever request of it fails for a moment. */
interface Verb {
  readonly operation: string
  prepare?(folder: string): Promise<void>
  run(folder: string): Promise<void>
  check(folder: string): Promise<void>
}

const isWhole = async (key: string, bytes: Buffer) =>
  expect((await streamed(truth, key))?.equals(bytes)).toBe(true)

const sources = async (folder: string) => listed(truth, `${folder}sources/`)

const verbs: Readonly<Record<string, Verb>> = {
  'a write': {
    operation: 'PutObject',
    run: (folder) => driver.write(`${folder}a`, small),
    check: (folder) => isWhole(`${folder}a`, small),
  },
  'a stat': {
    operation: 'HeadObject',
    prepare: (folder) => truth.write(`${folder}a`, small),
    run: async (folder) => {
      const { object, date } = await driver.stat(`${folder}a`)
      expect(object?.size).toBe(small.length)
      expect(Math.abs(date - Date.now())).toBeLessThan(60_000)
    },
    check: (folder) => isWhole(`${folder}a`, small),
  },
  'a read': {
    operation: 'GetObject',
    prepare: (folder) => truth.write(`${folder}a`, small),
    run: async (folder) => expect(await driver.read(`${folder}a`)).toEqual(small),
    check: (folder) => isWhole(`${folder}a`, small),
  },
  'a stream': {
    operation: 'GetObject',
    prepare: (folder) => truth.write(`${folder}a`, small),
    run: async (folder) => expect(await streamed(driver, `${folder}a`)).toEqual(small),
    check: (folder) => isWhole(`${folder}a`, small),
  },
  'a listing': {
    operation: 'ListObjectsV2',
    prepare: (folder) => truth.write(`${folder}a`, small),
    run: async (folder) =>
      expect((await listed(driver, folder)).map(({ key }) => key)).toEqual([`${folder}a`]),
    check: (folder) => isWhole(`${folder}a`, small),
  },
  'a removal': {
    operation: 'DeleteObjects',
    prepare: (folder) => truth.write(`${folder}a`, small),
    run: (folder) => driver.remove([`${folder}a`]),
    check: async (folder) => expect(await listed(truth, folder)).toEqual([]),
  },
  'an upload that begins': {
    operation: 'CreateMultipartUpload',
    run: (folder) => upload(`${folder}a`, large),
    check: (folder) => isWhole(`${folder}a`, large),
  },
  'a part of an upload': {
    operation: 'UploadPart',
    run: (folder) => upload(`${folder}a`, large),
    check: (folder) => isWhole(`${folder}a`, large),
  },
  'the end of an upload': {
    operation: 'CompleteMultipartUpload',
    run: (folder) => upload(`${folder}a`, large),
    check: (folder) => isWhole(`${folder}a`, large),
  },
  'an append': {
    operation: 'PutObject',
    run: async (folder) => {
      expect((await appended(folder, large)).map(({ object }) => object.size)).toEqual([
        8 * mebibyte,
        4 * mebibyte,
      ])
    },
    check: async (folder) => {
      const segments = await listed(truth, folder)
      const bytes = await Promise.all(segments.map(({ key }) => truth.read(key)))
      expect(Buffer.concat(bytes.map((each) => each ?? Buffer.alloc(0))).equals(large)).toBe(true)
    },
  },
  'a copy': {
    operation: 'CopyObject',
    prepare: (folder) => truth.write(`${folder}sources/a`, small),
    run: async (folder) => driver.compose(await sources(folder), `${folder}a`),
    check: (folder) => isWhole(`${folder}a`, small),
  },
  'a part of a composition': {
    operation: 'UploadPartCopy',
    prepare: async (folder) => {
      await truth.write(`${folder}sources/a`, large.subarray(0, 6 * mebibyte))
      await truth.write(`${folder}sources/b`, large.subarray(6 * mebibyte))
    },
    run: async (folder) => driver.compose(await sources(folder), `${folder}a`),
    check: (folder) => isWhole(`${folder}a`, large),
  },
}

const troubles: Readonly<Record<string, Misbehaviour>> = {
  'is told to slow down': { answer: { status: 503, code: 'SlowDown' } },
  'meets an internal error': { answer: { status: 500, code: 'InternalError' } },
  'meets a gateway that gave up, though the storage did its work': {
    replace: { status: 504, code: 'GatewayTimeout' },
  },
  'is cut off before it arrives': { cut: 'before' },
  'is cut off before its answer arrives': { cut: 'after' },
}

/** Where the answer that names an upload is lost, only its key leads to it: Driver.abortUpload without an id. */
const leaksUpload = (operation: string, does: Misbehaviour) =>
  operation === 'CreateMultipartUpload' && (does.replace !== undefined || does.cut === 'after')

describe.each(Object.entries(verbs))('%s', (_, verb) => {
  test.each(Object.entries(troubles))(`(${verb.operation}) that %s once ends well`, async (__, does) => {
    const folder = `${randomUUID()}/`
    await verb.prepare?.(folder)
    proxy.misbehave({ matches: verb.operation, times: 1, does })
    await verb.run(folder)
    expect(proxy.count(verb.operation)).toBeGreaterThan(1)
    await verb.check(folder)
    expect(await unfinishedUploads(`${folder}a`)).toBe(leaksUpload(verb.operation, does) ? 1 : 0)
    await truth.abortUpload({ key: `${folder}a` }, { begunBefore: Infinity })
    expect(await unfinishedUploads(`${folder}a`)).toBe(0)
  })

  test(`(${verb.operation}) that is refused for good says when to come back, and leaves nothing half-done`, async () => {
    const folder = `${randomUUID()}/`
    await verb.prepare?.(folder)
    const headers = { 'retry-after': '7' }
    proxy.misbehave({ matches: verb.operation, does: { answer: { status: 503, code: 'SlowDown', headers } } })
    const patient = driver
    driver = impatient
    try {
      await expect(verb.run(folder)).rejects.toMatchObject({
        name: 'StorageUnavailable',
        retryAfterSeconds: 7,
      })
    } finally {
      driver = patient
    }
    expect(await unfinishedUploads(`${folder}a`)).toBe(0)
  })
})

describe('an answer that is lost', () => {
  test('makes a creation fail that took place: whoever asked reads back whose object it is', async () => {
    const key = `${randomUUID()}/a`
    proxy.misbehave({ matches: 'PutObject', times: 1, does: { cut: 'after' } })
    await expect(driver.write(key, small, { ifAbsent: true })).rejects.toThrow(PreconditionFailed)
    await isWhole(key, small)
  })

  test('of a write that must not be repeated ends the write, and says so', async () => {
    const key = `${randomUUID()}/a`
    proxy.misbehave({ matches: 'PutObject', times: 1, does: { cut: 'after' } })
    await expect(driver.write(key, small, { isRepeatable: false })).rejects.toThrow(StorageUnavailable)
    expect(proxy.count('PutObject')).toBe(1)
  })

  test('of an append does not hide another writer: other bytes at that offset are a conflict', async () => {
    const folder = `${randomUUID()}/`
    await truth.write(`${folder}0000000000000000`, Buffer.from('of another one'))
    proxy.misbehave({ matches: 'PutObject', times: 1, does: { cut: 'before' } })
    await expect(appended(folder, small)).rejects.toThrow(PreconditionFailed)
    expect((await truth.read(`${folder}0000000000000000`))?.toString()).toBe('of another one')
  })
})

test('a write that must not be repeated is repeated where the storage says that it did nothing', async () => {
  const key = `${randomUUID()}/a`
  proxy.misbehave({ matches: 'PutObject', times: 2, does: { answer: { status: 503, code: 'SlowDown' } } })
  await driver.write(key, small, { isRepeatable: false })
  expect(proxy.count('PutObject')).toBe(3)
  await isWhole(key, small)
})

test('a concurrent creation that the storage reports as a conflict is asked again', async () => {
  const key = `${randomUUID()}/a`
  const answer = { status: 409, code: 'ConditionalRequestConflict' }
  proxy.misbehave({ matches: 'PutObject', times: 2, does: { answer } })
  await driver.write(key, small, { ifAbsent: true })
  expect(proxy.count('PutObject')).toBe(3)
})

test.each(['CompleteMultipartUpload', 'CopyObject'])(
  'an error in the body of a 200 is an error (%s)',
  async (operation) => {
    const folder = `${randomUUID()}/`
    const verb = operation === 'CopyObject' ? verbs['a copy'] : verbs['the end of an upload']
    await verb?.prepare?.(folder)
    proxy.misbehave({
      matches: operation,
      times: 1,
      does: { answer: { status: 200, code: 'InternalError' } },
    })
    await verb?.run(folder)
    expect(proxy.count(operation)).toBe(2)
    await verb?.check(folder)
  },
)

describe('bytes that break off', () => {
  test('are asked for from where they ended, of the same version', async () => {
    const key = `${randomUUID()}/a`
    await truth.write(key, large)
    proxy.misbehave({ matches: 'GetObject', times: 3, does: { cutBodyAt: 2 * mebibyte + 17 } })
    expect((await streamed(driver, key))?.equals(large)).toBe(true)
    const ranges = proxy.requests.map(({ headers }) => headers['range'])
    expect(ranges[0]).toBeUndefined()
    expect(ranges[1]).toMatch(/^bytes=\d+-12582911$/)
    expect(proxy.requests[1]?.headers['if-match']).toMatch(/^"/)
  })

  test('are never continued with those of another object', async () => {
    const key = `${randomUUID()}/a`
    await truth.write(key, large)
    proxy.misbehave({ matches: 'GetObject', times: 1, does: { cutBodyAt: 2 * mebibyte } })
    const stream = await driver.stream(key)
    await truth.write(key, Buffer.alloc(large.length, 'other'))
    await expect(Array.fromAsync(stream?.body ?? [])).rejects.toThrow(PreconditionFailed)
  })

  test('of a small object are read again', async () => {
    const key = `${randomUUID()}/a`
    await truth.write(key, large)
    proxy.misbehave({ matches: 'GetObject', times: 1, does: { cutBodyAt: 1000 } })
    expect((await driver.read(key))?.equals(large)).toBe(true)
  })
})

test('a storage that does not answer is unavailable once the deadline has passed', async () => {
  let pass = () => {}
  const until = new Promise<void>((resolve) => (pass = resolve))
  proxy.misbehave({ does: { until } })
  const hurried = s3Driver({ ...options, deadlineMs: 100 })
  await expect(hurried.stat('a')).rejects.toThrow(StorageUnavailable)
  await expect(hurried.write('a', small)).rejects.toThrow(StorageUnavailable)
  pass()
  await hurried.close?.()
})

test('a caller that goes away ends its request, with its own reason', async () => {
  let pass = () => {}
  const until = new Promise<void>((resolve) => (pass = resolve))
  proxy.misbehave({ does: { until } })
  const gone = new AbortController()
  const reading = driver.read('a', { signal: gone.signal })
  gone.abort(new Error('the client has gone'))
  await expect(reading).rejects.toThrow('the client has gone')
  pass()
})

describe('what an operator can change is said', () => {
  test.each([
    ['a bucket that does not exist', { bucket: 'no-such-bucket' }, /NoSuchBucket.*Create the bucket/],
    ['a storage that is not there', { endpoint: 'http://127.0.0.1:9', attempts: 1 }, /ECONNREFUSED/],
  ])('%s', async (_, changed, message) => {
    const other = s3Driver({ ...options, endpoint: server.endpoint, ...changed })
    await expect(other.write('a', small)).rejects.toThrow(message)
    await other.close?.()
  })

  test('an access key that the storage does not know', async () => {
    process.env['AWS_ACCESS_KEY_ID'] = 'nobody'
    const other = s3Driver({ ...options, endpoint: server.endpoint })
    await expect(other.write('a', small)).rejects.toThrow(/InvalidAccessKeyId.*AWS_ACCESS_KEY_ID/)
    await other.close?.()
    Object.assign(process.env, credentialsEnv(server))
  })

  test('credentials that may not do it', async () => {
    proxy.misbehave({ does: { answer: { status: 403, code: 'AccessDenied' } } })
    await expect(driver.write('a', small)).rejects.toThrow(/s3:GetObject/)
    await expect(driver.stat('a')).rejects.toThrow(/s3:ListBucket/)
  })
})
