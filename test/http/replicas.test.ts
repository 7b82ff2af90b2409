/** Two servers on one storage: what one has answered, the other knows at once. */
import { describe, expect, test } from '@jest/globals'
import { digestOf } from '../../src/oci/digest.ts'
import { mediaTypes } from '../../src/oci/media-types.ts'
import { parseRepositoryName, parseTag } from '../../src/oci/names.ts'
import { revisionLinkKey, tagLinkKey } from '../../src/registry/layout.ts'
import { memoryDriver } from '../../src/storage/memory.ts'
import type { Driver } from '../../src/storage/driver.ts'
import {
  bytesOf,
  errorOf,
  imageOf,
  jsonOf,
  openTestRegistry,
  pushBlob,
  pushImage,
  putManifest,
  startUpload,
} from '../support/registry.ts'

const image = imageOf(['layer'])
const other = imageOf(['layer'], { annotations: { version: '2' } })
const digest = digestOf(bytesOf(image))

describe('two servers on one storage', () => {
  test('a manifest deleted on one is a 404 on the other, which has served it before', async () => {
    const driver = memoryDriver()
    await using one = await openTestRegistry({ driver })
    await using two = await openTestRegistry({ driver })
    await pushImage(one, 'a', 'v1')
    for (let round = 0; round < 3; round++) {
      for (const reference of ['v1', digest])
        expect((await two.send(`GET /v2/a/manifests/${reference}`)).status).toBe(200)
      expect((await one.send(`DELETE /v2/a/manifests/${digest}`)).status).toBe(202)
      for (const reference of ['v1', digest]) {
        for (const method of ['GET', 'HEAD']) {
          expect((await two.send(`${method} /v2/a/manifests/${reference}`)).status).toBe(404)
        }
      }
      expect(jsonOf(await two.send('GET /v2/a/tags/list'))).toEqual({ name: 'a', tags: [] })
      expect((await putManifest(two, 'a', digest, image)).status).toBe(201)
      expect((await one.send('GET /v2/a/manifests/v1')).status).toBe(200)
    }
  })

  test('a blob deleted on one is a 404 on the other, and unknown to its manifests', async () => {
    const driver = memoryDriver()
    await using one = await openTestRegistry({ driver })
    await using two = await openTestRegistry({ driver })
    await pushImage(one, 'a', 'v1')
    const layer = digestOf(Buffer.from('layer'))
    expect((await two.send(`GET /v2/a/blobs/${layer}`)).status).toBe(200)
    await one.send(`DELETE /v2/a/blobs/${layer}`)
    for (const method of ['GET', 'HEAD'])
      expect((await two.send(`${method} /v2/a/blobs/${layer}`)).status).toBe(404)
    expect(errorOf(await putManifest(two, 'a', 'v2', image))).toBe('404 MANIFEST_BLOB_UNKNOWN')
  })

  test('a tag moved, set or deleted on one is so on the other', async () => {
    const driver = memoryDriver()
    await using one = await openTestRegistry({ driver })
    await using two = await openTestRegistry({ driver })
    await pushImage(one, 'a', 'v1')
    for (let round = 0; round < 5; round++) {
      for (const [from, to, manifest] of [
        [one, two, other],
        [two, one, image],
      ] as const) {
        await putManifest(from, 'a', 'v1', manifest)
        expect((await to.send('GET /v2/a/manifests/v1')).body).toEqual(bytesOf(manifest))
        await putManifest(from, 'a', 'v2', manifest)
        expect(jsonOf(await to.send('GET /v2/a/tags/list'))).toEqual({ name: 'a', tags: ['v1', 'v2'] })
        await to.send('DELETE /v2/a/manifests/v2')
        expect((await from.send('GET /v2/a/manifests/v2')).status).toBe(404)
      }
    }
  })

  test('a tag that is moved, and its old manifest deleted, in the middle of a pull is its new manifest', async () => {
    const memory = memoryDriver()
    await using writer = await openTestRegistry({ driver: memory })
    await pushImage(writer, 'a', 'v1')
    const oldLink = revisionLinkKey(parseRepositoryName('a'), digest)
    let isMoved = false
    const driver: Driver = {
      ...memory,
      async stat(key, options) {
        if (key === oldLink && !isMoved) {
          isMoved = true
          await putManifest(writer, 'a', 'v1', other)
          await writer.send(`DELETE /v2/a/manifests/${digest}`)
        }
        return memory.stat(key, options)
      },
    }
    await using reader = await openTestRegistry({ driver })
    const answer = await reader.send('GET /v2/a/manifests/v1')
    expect(answer.status).toBe(200)
    expect(answer.body).toEqual(bytesOf(other))
    expect(isMoved).toBe(true)
  })

  test('a referrer and a repository show on the other', async () => {
    const driver = memoryDriver()
    await using one = await openTestRegistry({ driver })
    await using two = await openTestRegistry({ driver })
    await pushImage(one, 'a', 'v1')
    const subject = { mediaType: mediaTypes.imageManifest, digest, size: bytesOf(image).length }
    const list = async () =>
      jsonOf<{ manifests: unknown[] }>(await two.send(`GET /v2/a/referrers/${digest}`)).manifests
    expect(await list()).toEqual([])
    const referrer = imageOf([], { subject })
    await putManifest(one, 'a', 'signature', referrer)
    expect(await list()).toHaveLength(1)
    await one.send(`DELETE /v2/a/manifests/${digestOf(bytesOf(referrer))}`)
    expect(await list()).toEqual([])
    expect(jsonOf(await two.send('GET /v2/_catalog'))).toEqual({ repositories: ['a'] })
  })

  test('an upload goes on and ends on either', async () => {
    const driver = memoryDriver()
    await using one = await openTestRegistry({ driver })
    await using two = await openTestRegistry({ driver })
    const content = Buffer.from('abcdefgh')
    const location = await startUpload(one, 'a')
    for (const [position, at] of [one, two, two, one, two, one, one].entries()) {
      const answer = await at.send(`PATCH ${location}`, {
        body: content.subarray(position, position + 1),
        headers: { 'Content-Range': `${position}-${position}` },
      })
      expect(answer).toMatchObject({ status: 202, headers: { range: `0-${position}` } })
    }
    const late = await two.send(`PATCH ${location}`, { body: 'c', headers: { 'Content-Range': '2-2' } })
    expect(late).toMatchObject({ status: 416, headers: { range: '0-6' } })
    const put = await two.send(`PUT ${location}?digest=${digestOf(content)}`, { body: content.subarray(7) })
    expect(put.status).toBe(201)
    expect((await one.send(`GET /v2/a/blobs/${digestOf(content)}`)).body).toEqual(content)
    expect((await one.send(`PATCH ${location}`, { body: 'x' })).status).toBe(404)

    const cancelled = await startUpload(two, 'a')
    await one.send(`PATCH ${cancelled}`, { body: 'x' })
    expect((await two.send(`DELETE ${cancelled}`)).status).toBe(204)
    expect((await one.send(`GET ${cancelled}`)).status).toBe(404)
  })

  test('of two that end one upload at once one wins, and the other does no harm', async () => {
    const driver = memoryDriver()
    await using one = await openTestRegistry({ driver })
    await using two = await openTestRegistry({ driver })
    const content = Buffer.from('abcdefgh')
    for (let round = 0; round < 10; round++) {
      const location = await startUpload(one, 'a')
      await one.send(`PATCH ${location}`, { body: content })
      const answers = await Promise.all(
        [one, two].map(async (at) => at.send(`PUT ${location}?digest=${digestOf(content)}`)),
      )
      const statuses = answers.map(({ status }) => status)
      expect(statuses).toContain(201)
      for (const status of statuses) expect([201, 400, 404]).toContain(status)
      expect((await two.send(`GET /v2/a/blobs/${digestOf(content)}`)).body).toEqual(content)
      await two.send(`DELETE /v2/a/blobs/${digestOf(content)}`)
    }
  })

  test('of many that push one manifest at once all succeed', async () => {
    const driver = memoryDriver()
    await using one = await openTestRegistry({ driver })
    await using two = await openTestRegistry({ driver })
    for (const blob of ['{}', 'layer']) await pushBlob(one, 'a', blob)
    const answers = await Promise.all(
      Array.from({ length: 20 }, async (_, index) =>
        putManifest(index % 2 ? one : two, 'a', `t${index % 5}`, image),
      ),
    )
    expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(201))
    expect(jsonOf(await one.send('GET /v2/a/tags/list'))).toEqual({
      name: 'a',
      tags: ['t0', 't1', 't2', 't3', 't4'],
    })
  })
})

describe('many requests for one key', () => {
  const key = tagLinkKey(parseRepositoryName('a'), parseTag('v1'))

  /** Storage whose reads of the tag take until they are let go, with what they found at their start. */
  function slowReads(memory: Driver) {
    const waiting: (() => void)[] = []
    const state = { isSlow: false, reads: 0 }
    const driver: Driver = {
      ...memory,
      async read(...args) {
        const found = await memory.read(...args)
        if (args[0] !== key) return found
        state.reads++
        if (state.isSlow) await new Promise<void>((resolve) => waiting.push(resolve))
        return found
      },
    }
    return { driver, state, waiting }
  }

  async function settle() {
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 1))
  }

  test('share reads, and none gets what is older than itself', async () => {
    const memory = memoryDriver()
    const { driver, state, waiting } = slowReads(memory)
    await using slow = await openTestRegistry({ driver })
    await using writer = await openTestRegistry({ driver: memory })
    await pushImage(writer, 'a', 'v1')
    state.isSlow = true
    state.reads = 0
    const early = Array.from({ length: 10 }, async () => slow.send('GET /v2/a/manifests/v1'))
    await settle()
    expect(waiting).toHaveLength(1)
    await putManifest(writer, 'a', 'v1', other)
    const late = Array.from({ length: 10 }, async () => slow.send('GET /v2/a/manifests/v1'))
    await settle()
    expect(waiting).toHaveLength(1)
    state.isSlow = false
    for (const letGo of waiting) letGo()
    for (const answer of await Promise.all(late)) expect(answer.body).toEqual(bytesOf(other))
    for (const { body } of await Promise.all(early))
      expect([bytesOf(image), bytesOf(other)]).toContainEqual(body)
    // The one that was under way, and the next one, which all others share.
    expect(state.reads).toBe(2)
  })

  test('whose shared read fails all say so, and the next one reads again', async () => {
    const memory = memoryDriver()
    let fails = false
    const driver: Driver = {
      ...memory,
      async read(...args) {
        if (fails && args[0] === key) throw new Error('unreadable')
        return memory.read(...args)
      },
    }
    await using at = await openTestRegistry({ driver, mayFail: true })
    await pushImage(at, 'a', 'v1')
    fails = true
    const answers = await Promise.all(
      Array.from({ length: 5 }, async () => at.send('GET /v2/a/manifests/v1')),
    )
    expect(answers.map(({ status }) => status)).toEqual(Array(5).fill(500))
    fails = false
    expect((await at.send('GET /v2/a/manifests/v1')).status).toBe(200)
  })
})
