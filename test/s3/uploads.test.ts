import { ListMultipartUploadsCommand, ListPartsCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { randomUUID } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { byteBudget } from '../../src/storage/buffers.ts'
import { PreconditionFailed, segmentKey, type Driver, type UploadHandle } from '../../src/storage/driver.ts'
import { s3Driver, type S3Options } from '../../src/storage/s3.ts'
import { startFaultyProxy, type FaultyProxy } from '../support/faulty-proxy.ts'
import { credentialsEnv, startMinio, type S3Server } from '../support/s3-servers.ts'

const mebibyte = 1024 * 1024

let server: S3Server
let proxy: FaultyProxy
let client: S3Client
let options: S3Options
const opened: Driver[] = []

beforeAll(async () => {
  server = await startMinio()
  Object.assign(process.env, credentialsEnv(server))
  await server.createBucket('uploads')
  proxy = await startFaultyProxy(server)
  const { region } = server
  client = new S3Client({ endpoint: server.endpoint, region, forcePathStyle: true })
  options = { bucket: 'uploads', endpoint: proxy.endpoint, region, pathStyle: true, partBytes: 5 * mebibyte }
}, 60_000)

afterEach(async () => {
  proxy.behave()
  proxy.forget()
  for (const driver of opened.splice(0)) await driver.close?.()
})

afterAll(async () => {
  client.destroy()
  await proxy.stop()
  await server.stop()
})

function open(changed: Partial<S3Options> = {}): Driver {
  const driver = s3Driver({ ...options, ...changed })
  opened.push(driver)
  return driver
}

/** Holds the requests of an operation back until it is let go; how many wait is counted by the proxy. */
function hold(operation: string): () => void {
  let letGo = () => {}
  const until = new Promise<void>((resolve) => (letGo = resolve))
  proxy.misbehave({ matches: operation, does: { until } })
  return letGo
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await setImmediate()
}

async function unfinished(key: string): Promise<number> {
  return (
    (await client.send(new ListMultipartUploadsCommand({ Bucket: 'uploads', Prefix: key }))).Uploads ?? []
  ).length
}

describe('the memory of uploads', () => {
  test('64 uploads of three parts at once stay within the bound of the process, and all end', async () => {
    const uploadMemory = byteBudget(32 * mebibyte)
    const driver = open({ uploadMemory })
    const folder = `${randomUUID()}/`
    const bytes = 11 * mebibyte
    const chunk = Buffer.alloc(mebibyte, 'x')
    await Promise.all(
      Array.from({ length: 64 }, async (_, index) => {
        const upload = await driver.upload(`${folder}${index}`, index % 2 ? { size: bytes } : {})
        for (let sent = 0; sent < bytes; sent += chunk.length) await upload.write(chunk)
        await upload.complete()
      }),
    )
    const listed = await Array.fromAsync(driver.list(folder))
    expect(listed.map(({ object }) => object.size)).toEqual(Array.from({ length: 64 }, () => bytes))
    expect(uploadMemory.peakBytes()).toBeLessThanOrEqual(32 * mebibyte)
    expect(uploadMemory.peakBytes()).toBeGreaterThan(20 * mebibyte)
    expect(uploadMemory.heldBytes()).toBe(0)
  }, 60_000)

  test('is given back by uploads, appends and compositions that fail or are aborted', async () => {
    const uploadMemory = byteBudget(32 * mebibyte)
    const driver = open({ uploadMemory, attempts: 1 })
    const key = `${randomUUID()}/a`
    proxy.misbehave({ matches: 'UploadPart', does: { answer: { status: 500, code: 'InternalError' } } })
    proxy.misbehave({ matches: 'PutObject', does: { answer: { status: 500, code: 'InternalError' } } })
    const upload = await driver.upload(key, {})
    await expect(upload.write(Buffer.alloc(12 * mebibyte)).then(() => upload.complete())).rejects.toThrow(
      '500',
    )
    await upload.abort()
    const append = await driver.append(key, 0)
    await append.write(Buffer.alloc(12 * mebibyte)).catch(() => {})
    await expect(append.close()).rejects.toThrow('500')
    const unused = await driver.upload(key, {})
    await unused.write(Buffer.alloc(10))
    expect(uploadMemory.heldBytes()).toBeGreaterThan(0)
    await unused.abort()
    expect(uploadMemory.heldBytes()).toBe(0)
  })

  test('a client that goes away while it waits for memory is let go', async () => {
    const uploadMemory = byteBudget(5 * mebibyte)
    const driver = open({ uploadMemory })
    const first = await driver.upload('first', {})
    await first.write(Buffer.alloc(10))
    const gone = new AbortController()
    const second = await driver.upload('second', { signal: gone.signal })
    const waiting = second.write(Buffer.alloc(10))
    gone.abort(new Error('the client has gone'))
    await expect(waiting).rejects.toThrow('the client has gone')
    await second.abort()
    await first.abort()
    expect(uploadMemory.heldBytes()).toBe(0)
  })
})

describe('an upload', () => {
  test('sends its parts in parallel, and no more of them than it may', async () => {
    const driver = open({ concurrency: 3 })
    const letGo = hold('UploadPart')
    const upload = await driver.upload(`${randomUUID()}/a`, {})
    let written = false
    const writing = upload.write(Buffer.alloc(40 * mebibyte)).then(() => (written = true))
    await until(() => proxy.count('UploadPart') === 3)
    for (let turn = 0; turn < 50; turn++) await setImmediate()
    expect(proxy.count('UploadPart')).toBe(3)
    expect(written).toBe(false)
    letGo()
    await writing
    await upload.complete()
    expect(proxy.count('UploadPart')).toBe(8)
  })

  test('that is aborted while parts are on their way leaves no part and no upload', async () => {
    const driver = open()
    const key = `${randomUUID()}/a`
    const handles: UploadHandle[] = []
    const letGo = hold('UploadPart')
    const upload = await driver.upload(key, { record: async (handle) => void handles.push(handle) })
    await upload.write(Buffer.alloc(16 * mebibyte))
    await until(() => proxy.count('UploadPart') === 3)
    const aborted = upload.abort()
    letGo()
    await aborted
    expect(handles.map(({ id }) => typeof id)).toEqual(['undefined', 'string'])
    expect(await unfinished(key)).toBe(0)
    const parts = new ListPartsCommand({ Bucket: 'uploads', Key: key, UploadId: handles[1]?.id })
    await expect(client.send(parts)).rejects.toMatchObject({ name: 'NoSuchUpload' })
  })

  test('whose beginning got no answer is found again by its key alone', async () => {
    const driver = open()
    const key = `${randomUUID()}/a`
    const handles: UploadHandle[] = []
    proxy.misbehave({ matches: 'CreateMultipartUpload', times: 1, does: { cut: 'after' } })
    const upload = await driver.upload(key, { record: async (handle) => void handles.push(handle) })
    await upload.write(Buffer.alloc(6 * mebibyte))
    await upload.complete()
    expect(handles).toEqual([{ key }])
    expect(await unfinished(key)).toBe(1)
    for (const handle of handles) await driver.abortUpload(handle, { begunBefore: Infinity })
    expect(await unfinished(key)).toBe(0)
    expect((await driver.stat(key)).object?.size).toBe(6 * mebibyte)
  })
})

describe('an append', () => {
  test('sends nothing behind its first segment before that is there', async () => {
    const driver = open()
    const letGo = hold('PutObject')
    const append = await driver.append(`${randomUUID()}/`, 0)
    const writing = append.write(Buffer.alloc(14 * mebibyte))
    await until(() => proxy.count('PutObject') === 1)
    for (let turn = 0; turn < 50; turn++) await setImmediate()
    expect(proxy.count('PutObject')).toBe(1)
    letGo()
    await writing
    const segments = await append.close()
    expect(segments.map(({ object }) => object.size)).toEqual([5 * mebibyte, 5 * mebibyte, 4 * mebibyte])
  })

  test('that meets the segment of another in its middle takes its own behind that away', async () => {
    const driver = open()
    const folder = `${randomUUID()}/`
    await driver.write(segmentKey(folder, 5 * mebibyte), Buffer.from('of another one'))
    const append = await driver.append(folder, 0)
    const writing = append.write(Buffer.alloc(18 * mebibyte)).then(() => append.close())
    await expect(writing).rejects.toThrow(PreconditionFailed)
    await append.close().catch(() => {})
    const keys = (await Array.fromAsync(driver.list(folder))).map(({ key }) => key)
    expect(keys).toEqual([segmentKey(folder, 0), segmentKey(folder, 5 * mebibyte)])
  })
})
