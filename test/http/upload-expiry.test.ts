import { describe, expect, test } from '@jest/globals'
import { digestOf } from '../../src/oci/digest.ts'
import { blobKey, segmentsPrefix, sessionKey, uploadsFolder } from '../../src/registry/layout.ts'
import { expireUploads } from '../../src/registry/upload-expiry.ts'
import { segmentKey, type Driver, type UploadHandle } from '../../src/storage/driver.ts'
import { memoryDriver } from '../../src/storage/memory.ts'
import { manualClock } from '../support/manual-clock.ts'
import { watchDriver } from '../support/watched-driver.ts'
import { errorOf, keysOf, openTestRegistry, startUpload, until } from '../support/registry.ts'

const expiryMs = 1_000_000

/** A registry, and a storage, whose time is the test's. */
async function openWithClock() {
  const clock = manualClock()
  const { driver, openWrites } = watchDriver(memoryDriver({ clock }))
  const at = await openTestRegistry({ driver, clock, registry: { uploadExpiryMs: expiryMs } })
  return { at, clock, driver, openWrites }
}

const idOf = (location: string) => location.split('/').at(-1) ?? ''

describe('an upload that nobody continues', () => {
  test('expires with its parts; younger ones stay, and go on', async () => {
    const { at, clock, driver } = await openWithClock()
    await using _ = at
    const old = await startUpload(at, 'a')
    await at.send(`PATCH ${old}`, { body: 'old' })
    const empty = await startUpload(at, 'a')
    clock.advance(expiryMs / 2)
    const young = await startUpload(at, 'a')
    await at.send(`PATCH ${young}`, { body: 'you' })
    clock.advance(expiryMs / 2)
    // The server does it by itself, time and again.
    await until(async () => (await at.send(`GET ${old}`)).status === 404)
    await until(async () => (await at.send(`GET ${empty}`)).status === 404)
    expect(errorOf(await at.send(`PATCH ${old}`, { body: 'x' }))).toBe('404 BLOB_UPLOAD_UNKNOWN')
    expect((await keysOf(driver, uploadsFolder)).every((key) => key.includes(idOf(young)))).toBe(true)
    const put = await at.send(`PUT ${young}?digest=${digestOf(Buffer.from('young'))}`, { body: 'ng' })
    expect(put.status).toBe(201)
    expect(await keysOf(driver, uploadsFolder)).toEqual([])
    expect(at.lines.filter((line) => line.includes('have expired'))).toHaveLength(1)
  })

  test('is as young as the last chunk that it got', async () => {
    const { at, clock, driver } = await openWithClock()
    await using _ = at
    const location = await startUpload(at, 'a')
    for (const [position, byte] of ['a', 'b', 'c', 'd', 'e'].entries()) {
      clock.advance(expiryMs - 1)
      expect(await expireUploads({ driver, expiryMs })).toBe(0)
      const answer = await at.send(`PATCH ${location}`, { body: byte })
      expect(answer).toMatchObject({ status: 202, headers: { range: `0-${position}` } })
    }
    clock.advance(expiryMs)
    await until(async () => (await keysOf(driver, uploadsFolder)).length === 0)
  })

  test('expires at the age that was set, to the millisecond, by the clock of the storage', async () => {
    const clock = manualClock()
    const driver = memoryDriver({ clock })
    await using at = await openTestRegistry({ driver })
    await startUpload(at, 'a')
    clock.advance(expiryMs - 1)
    expect(await expireUploads({ driver, expiryMs })).toBe(0)
    clock.advance(1)
    expect(await expireUploads({ driver, expiryMs })).toBe(1)
    expect(await expireUploads({ driver, expiryMs })).toBe(0)
  })

  test('takes its unfinished upload of the storage along, by its handle', async () => {
    const aborted: { upload: UploadHandle; begunBefore: number }[] = []
    const clock = manualClock()
    const driver = memoryDriver({ clock })
    const id = '00000000-0000-4000-8000-000000000000'
    const upload = { key: blobKey(digestOf(Buffer.from('x'))), id: 'an upload' }
    const record = { format: 1, repository: 'a', algorithm: 'sha256', uploads: [upload] }
    await driver.write(sessionKey(id), Buffer.from(JSON.stringify(record)))
    clock.advance(expiryMs)
    const expired = await expireUploads({
      driver: {
        ...driver,
        async abortUpload(upload, { begunBefore }) {
          aborted.push({ upload, begunBefore })
        },
      },
      expiryMs,
    })
    expect(expired).toBe(1)
    expect(aborted).toEqual([{ upload, begunBefore: clock.now() - expiryMs }])
    expect(await keysOf(driver)).toEqual([])
  })

  test('keeps its record while something of it could not be removed, so that the next time finds it', async () => {
    const clock = manualClock()
    const driver = memoryDriver({ clock })
    await using at = await openTestRegistry({ driver })
    const location = await startUpload(at, 'a')
    await at.send(`PATCH ${location}`, { body: 'x' })
    clock.advance(expiryMs)
    const failing: Driver = {
      ...driver,
      async remove(keys) {
        if (keys.some((key) => key.includes('/data/'))) throw new Error('the storage says no')
        return driver.remove(keys)
      },
    }
    await expect(expireUploads({ driver: failing, expiryMs })).rejects.toThrow(
      '1 uploads could not be removed',
    )
    expect(await keysOf(driver, uploadsFolder)).toContain(sessionKey(idOf(location)))
    expect(await expireUploads({ driver, expiryMs })).toBe(1)
    expect(await keysOf(driver, uploadsFolder)).toEqual([])
  })

  test('expires also where its record is damaged or gone', async () => {
    const clock = manualClock()
    const driver = memoryDriver({ clock })
    const [damaged, orphan] = ['damaged', 'orphan']
    await driver.write(sessionKey(damaged), Buffer.from('{'))
    await driver.write(segmentKey(segmentsPrefix(damaged), 0), Buffer.from('x'))
    await driver.write(segmentKey(segmentsPrefix(orphan), 0), Buffer.from('x'))
    clock.advance(expiryMs)
    expect(await expireUploads({ driver, expiryMs })).toBe(2)
    expect(await keysOf(driver)).toEqual([])
  })
})

describe('a body that takes longer than the expiry', () => {
  const pieces = ['one ', 'two ', 'three ', 'four ', 'five ', 'six ', 'seven ', 'eight']
  const whole = Buffer.from(pieces.join(''))

  test.each([
    ['PATCH', (location: string) => `PATCH ${location}`, 202],
    ['PUT', (location: string) => `PUT ${location}?digest=${digestOf(whole)}`, 201],
    ['POST', () => `POST /v2/a/blobs/uploads/?digest=${digestOf(whole)}`, 201],
  ])('keeps its session young: %s', async (method, targetOf, status) => {
    const { at, clock, driver, openWrites } = await openWithClock()
    await using _ = at
    const location = method === 'POST' ? '' : await startUpload(at, 'a')
    const target = targetOf(location)
    const modified = async () => {
      const [key = ''] = (await keysOf(driver, uploadsFolder)).filter((one) => one.endsWith('/session'))
      return (await driver.stat(key)).object?.modified
    }
    async function* slowly() {
      for (const [index, piece] of pieces.entries()) {
        yield Buffer.from(piece)
        if (index === 0) await until(() => openWrites() === 1)
        else await until(async () => (await modified()) === clock.now())
        clock.advance(expiryMs / 3)
        expect(await expireUploads({ driver, expiryMs })).toBe(0)
      }
    }
    expect((await at.send(target, { body: slowly() })).status).toBe(status)
    if (method === 'PATCH') {
      expect((await at.send(`PUT ${location}?digest=${digestOf(whole)}`)).status).toBe(201)
    }
    expect((await at.send(`GET /v2/a/blobs/${digestOf(whole)}`)).body).toEqual(whole)
    expect(await keysOf(driver, uploadsFolder)).toEqual([])
  })
})
