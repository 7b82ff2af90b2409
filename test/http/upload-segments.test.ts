/** What a server that died in the middle of a chunk leaves of a session, and what the next request makes of it. */
import { expect, test } from '@jest/globals'
import { digestOf } from '../../src/oci/digest.ts'
import { segmentsPrefix, sessionKey, uploadsFolder } from '../../src/registry/layout.ts'
import { segmentKey, type Driver, type UploadHandle } from '../../src/storage/driver.ts'
import { memoryDriver } from '../../src/storage/memory.ts'
import { openTestRegistry } from '../support/registry.ts'

async function keysBelow(driver: Driver, prefix: string): Promise<string[]> {
  return (await Array.fromAsync(driver.list(prefix))).map(({ key }) => key)
}

test('end-13, end-5: segments behind a gap count for nothing, and give way to what is sent again', async () => {
  await using server = await openTestRegistry()
  const { driver, send } = server
  const { headers } = await send('POST /v2/a/blobs/uploads/')
  const location = String(headers.location)
  const id = location.split('/').at(-1) ?? ''
  await send(`PATCH ${location}`, { body: 'first ' })
  await driver.write(segmentKey(segmentsPrefix(id), 14), Buffer.from('written beside the second'))

  const status = await send(`GET ${location}`)
  expect([status.status, status.headers.range]).toEqual([204, '0-5'])
  const patched = await send(`PATCH ${location}`, { body: 'second ', headers: { 'Content-Range': '6-12' } })
  expect([patched.status, patched.headers.range]).toEqual([202, '0-12'])
  const digest = digestOf(Buffer.from('first second third'))
  const finished = await send(`PUT ${location}?digest=${digest}`, { body: 'third' })

  expect(finished.status).toBe(201)
  expect((await send(`GET /v2/a/blobs/${digest}`)).body.toString()).toBe('first second third')
  expect(await keysBelow(driver, uploadsFolder)).toEqual([])
})

test('end-14: a cancelled upload takes segments behind a gap along', async () => {
  await using server = await openTestRegistry()
  const { driver, send } = server
  const location = String((await send('POST /v2/a/blobs/uploads/')).headers.location)
  await driver.write(segmentKey(segmentsPrefix(location.split('/').at(-1) ?? ''), 7), Buffer.from('stray'))

  expect((await send(`DELETE ${location}`)).status).toBe(204)
  expect(await keysBelow(driver, uploadsFolder)).toEqual([])
})

test('end-6: the upload of a server that died in a PUT is given up when another finishes the session', async () => {
  const driver = memoryDriver()
  const aborted: UploadHandle[] = []
  await using first = await openTestRegistry({ driver })
  await using second = await openTestRegistry({
    driver: {
      ...driver,
      async abortUpload(upload) {
        aborted.push(upload)
      },
    },
  })
  const location = String((await first.send('POST /v2/a/blobs/uploads/')).headers.location)
  const key = sessionKey(location.split('/').at(-1) ?? '')
  const record = JSON.parse(String(await driver.read(key))) as { uploads: UploadHandle[] }
  const uploads = [{ key: 'docker/registry/v2/blobs/sha256/00/00/data', id: 'of the dead' }]
  await driver.write(key, Buffer.from(JSON.stringify({ ...record, uploads })))

  const bytes = Buffer.from('sent again')
  const finished = await second.send(`PUT ${location}?digest=${digestOf(bytes)}`, { body: bytes })
  expect(finished.status).toBe(201)
  expect(aborted).toEqual(uploads)
  expect(await keysBelow(driver, uploadsFolder)).toEqual([])
})

test('end-6: an upload known by its key alone is left to expiry, in a record that no client knows', async () => {
  const driver = memoryDriver()
  await using first = await openTestRegistry({ driver })
  await using second = await openTestRegistry({ driver })
  const location = String((await first.send('POST /v2/a/blobs/uploads/')).headers.location)
  const key = sessionKey(location.split('/').at(-1) ?? '')
  const record = JSON.parse(String(await driver.read(key))) as { uploads: UploadHandle[] }
  const uploads = [{ key: 'docker/registry/v2/blobs/sha256/00/00/data' }]
  await driver.write(key, Buffer.from(JSON.stringify({ ...record, uploads })))

  const bytes = Buffer.from('sent again')
  expect((await second.send(`PUT ${location}?digest=${digestOf(bytes)}`, { body: bytes })).status).toBe(201)
  expect((await second.send(`GET ${location}`)).status).toBe(404)
  const [left, ...others] = await keysBelow(driver, uploadsFolder)
  expect(others).toEqual([])
  expect(left).not.toBe(key)
  expect(JSON.parse(String(await driver.read(left ?? '')))).toMatchObject({ uploads })
})
