import { describe, expect, test } from '@jest/globals'
import { digestOf } from '../../src/oci/digest.ts'
import { mediaTypes } from '../../src/oci/media-types.ts'
import {
  bytesOf,
  descriptorOf,
  errorOf,
  imageOf,
  indexOf,
  jsonOf,
  openTestRegistry,
  pushBlob,
  pushImage,
  putManifest,
} from '../support/registry.ts'

const zero = `sha256:${'0'.repeat(64)}`

describe('end-9: a tag', () => {
  test('is deleted alone; its manifest and other tags of it stay', async () => {
    await using at = await openTestRegistry()
    const digest = await pushImage(at, 'a', 'v1')
    await putManifest(at, 'a', 'v2', imageOf(['layer']))
    const answer = await at.send('DELETE /v2/a/manifests/v1')
    expect(answer).toMatchObject({ status: 202, headers: { 'content-length': '0' } })
    for (const method of ['GET', 'HEAD', 'DELETE']) {
      expect((await at.send(`${method} /v2/a/manifests/v1`)).status).toBe(404)
    }
    expect(jsonOf(await at.send('GET /v2/a/tags/list'))).toEqual({ name: 'a', tags: ['v2'] })
    for (const reference of ['v2', digest])
      expect((await at.send(`GET /v2/a/manifests/${reference}`)).status).toBe(200)
  })

  test('that begins others is deleted without them', async () => {
    await using at = await openTestRegistry()
    await pushImage(at, 'a', '1')
    for (const tag of ['1.0', '10', '1-a']) await putManifest(at, 'a', tag, imageOf(['layer']))
    expect((await at.send('DELETE /v2/a/manifests/1')).status).toBe(202)
    expect(jsonOf(await at.send('GET /v2/a/tags/list'))).toEqual({ name: 'a', tags: ['1-a', '1.0', '10'] })
  })

  test('may be set again', async () => {
    await using at = await openTestRegistry()
    await pushImage(at, 'a', 'v1')
    for (let round = 0; round < 3; round++) {
      expect((await at.send('DELETE /v2/a/manifests/v1')).status).toBe(202)
      expect((await putManifest(at, 'a', 'v1', imageOf(['layer']))).status).toBe(201)
      expect((await at.send('GET /v2/a/manifests/v1')).status).toBe(200)
    }
  })
})

describe('end-9: a manifest', () => {
  test('is at once a 404, by its digest and by every tag of it', async () => {
    await using at = await openTestRegistry()
    const digest = await pushImage(at, 'a', 'v1')
    await putManifest(at, 'a', 'v2', imageOf(['layer']))
    await pushImage(at, 'a', 'other', { annotations: { other: 'yes' } })
    expect((await at.send(`DELETE /v2/a/manifests/${digest}`)).status).toBe(202)
    for (const reference of [digest, 'v1', 'v2']) {
      expect(errorOf(await at.send(`GET /v2/a/manifests/${reference}`))).toBe('404 MANIFEST_UNKNOWN')
    }
    expect(errorOf(await at.send(`DELETE /v2/a/manifests/${digest}`))).toBe('404 MANIFEST_UNKNOWN')
    expect(jsonOf(await at.send('GET /v2/a/tags/list'))).toEqual({ name: 'a', tags: ['other'] })
  })

  test('that is pushed again by its digest shows again under the tags that it had', async () => {
    await using at = await openTestRegistry()
    const digest = await pushImage(at, 'a', 'v1')
    await at.send(`DELETE /v2/a/manifests/${digest}`)
    expect((await putManifest(at, 'a', digest, imageOf(['layer']))).status).toBe(201)
    expect((await at.send('GET /v2/a/manifests/v1')).headers['docker-content-digest']).toBe(digest)
    expect(jsonOf(await at.send('GET /v2/a/tags/list'))).toEqual({ name: 'a', tags: ['v1'] })
  })

  test('is deleted from one repository alone', async () => {
    await using at = await openTestRegistry()
    const digest = await pushImage(at, 'a', 'v1')
    await pushImage(at, 'a/b', 'v1')
    await at.send(`DELETE /v2/a/manifests/${digest}`)
    expect((await at.send('GET /v2/a/b/manifests/v1')).status).toBe(200)
  })

  test('leaves its blobs, and the index that lists it', async () => {
    await using at = await openTestRegistry()
    const digest = await pushImage(at, 'a', 'v1')
    const index = indexOf([descriptorOf(bytesOf(imageOf(['layer'])), mediaTypes.imageManifest)])
    await putManifest(at, 'a', 'index', index)
    await at.send(`DELETE /v2/a/manifests/${digest}`)
    expect((await at.send(`HEAD /v2/a/blobs/${digestOf(Buffer.from('layer'))}`)).status).toBe(200)
    expect((await at.send('GET /v2/a/manifests/index')).status).toBe(200)
  })

  test('which nobody knows, of a repository that nobody knows, is a 404', async () => {
    await using at = await openTestRegistry()
    const digest = await pushImage(at, 'a', 'v1')
    for (const path of [`a/manifests/${zero}`, 'a/manifests/v2', `b/manifests/${digest}`, 'b/manifests/v1']) {
      expect(errorOf(await at.send(`DELETE /v2/${path}`))).toBe('404 MANIFEST_UNKNOWN')
    }
  })
})

describe('end-10: a blob', () => {
  test('is at once a 404 here, and stays where other repositories have it', async () => {
    await using at = await openTestRegistry()
    const digest = await pushBlob(at, 'a', 'content')
    await pushBlob(at, 'b', 'content')
    expect(await at.send(`DELETE /v2/a/blobs/${digest}`)).toMatchObject({
      status: 202,
      headers: { 'content-length': '0' },
    })
    for (const method of ['GET', 'HEAD', 'DELETE']) {
      expect((await at.send(`${method} /v2/a/blobs/${digest}`)).status).toBe(404)
    }
    expect((await at.send(`GET /v2/b/blobs/${digest}`)).body.toString()).toBe('content')
    await pushBlob(at, 'a', 'content')
    expect((await at.send(`GET /v2/a/blobs/${digest}`)).body.toString()).toBe('content')
  })

  test('is then unknown to the next manifest', async () => {
    await using at = await openTestRegistry()
    await pushImage(at, 'a', 'v1')
    await at.send(`DELETE /v2/a/blobs/${digestOf(Buffer.from('layer'))}`)
    expect(errorOf(await putManifest(at, 'a', 'v2', imageOf(['layer'])))).toBe('404 MANIFEST_BLOB_UNKNOWN')
  })

  test('is no manifest: one is not deleted by the other path', async () => {
    await using at = await openTestRegistry()
    const manifest = await pushImage(at, 'a', 'v1')
    const blob = await pushBlob(at, 'a', 'content')
    expect(errorOf(await at.send(`DELETE /v2/a/manifests/${blob}`))).toBe('404 MANIFEST_UNKNOWN')
    expect(errorOf(await at.send(`DELETE /v2/a/blobs/${manifest}`))).toBe('404 BLOB_UNKNOWN')
    expect(errorOf(await at.send(`DELETE /v2/a/blobs/${zero}`))).toBe('404 BLOB_UNKNOWN')
    expect(errorOf(await at.send('DELETE /v2/a/blobs/v1'))).toBe('400 DIGEST_INVALID')
  })
})
