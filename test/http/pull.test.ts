import { describe, expect, test } from '@jest/globals'
import { digestOf } from '../../src/oci/digest.ts'
import { mediaTypes } from '../../src/oci/media-types.ts'
import { blobKey } from '../../src/registry/layout.ts'
import { memoryDriver } from '../../src/storage/memory.ts'
import {
  bytesOf,
  errorOf,
  imageOf,
  jsonOf,
  openTestRegistry,
  pushBlob,
  pushImage,
  putManifest,
} from '../support/registry.ts'

test('end-1: says that it implements the specification', async () => {
  await using at = await openTestRegistry()
  for (const path of ['/v2/', '/v2']) {
    const { status, headers, body } = await at.send(`GET ${path}`)
    expect(status).toBe(200)
    expect(headers).toMatchObject({
      'docker-distribution-api-version': 'registry/2.0',
      'content-type': 'application/json',
      'x-content-type-options': 'nosniff',
    })
    expect(body.toString()).toBe('{}')
  }
})

describe('end-3: a manifest', () => {
  test('comes byte for byte, by tag and by digest, with its type, digest, length and ETag', async () => {
    await using at = await openTestRegistry()
    await pushImage(at, 'a/b', 'first')
    // White space, an order of fields and a field of its own: what a parser would not give back.
    const bytes = Buffer.from(` ${JSON.stringify({ own: 1, ...imageOf(['layer']) }, null, 3)}\n`)
    const digest = digestOf(bytes)
    expect((await putManifest(at, 'a/b', 'v1', bytes)).status).toBe(201)
    for (const reference of ['v1', digest]) {
      const answer = await at.send(`GET /v2/a/b/manifests/${reference}`)
      expect(answer.status).toBe(200)
      expect(answer.body).toEqual(bytes)
      expect(answer.headers).toMatchObject({
        'content-type': mediaTypes.imageManifest,
        'content-length': String(bytes.length),
        'docker-content-digest': digest,
        etag: `"${digest}"`,
      })
    }
  })

  test('comes in the algorithm that it is asked for', async () => {
    await using at = await openTestRegistry()
    await pushImage(at, 'a', 'first')
    const bytes = bytesOf(imageOf(['layer'], { annotations: { sha: '512' } }))
    const digest = digestOf(bytes, 'sha512')
    const put = await at.send(`PUT /v2/a/manifests/${digest}?tag=t`, { body: bytes })
    expect(put.headers['docker-content-digest']).toBe(digest)
    for (const reference of [digest, 't']) {
      const answer = await at.send(`GET /v2/a/manifests/${reference}`)
      expect(answer.headers['docker-content-digest']).toBe(digest)
      expect(answer.body).toEqual(bytes)
    }
    expect(errorOf(await at.send(`GET /v2/a/manifests/${digestOf(bytes)}`))).toBe('404 MANIFEST_UNKNOWN')
  })

  test('is not sent again to a client that has it', async () => {
    await using at = await openTestRegistry()
    const digest = await pushImage(at, 'a', 'v1')
    for (const method of ['GET', 'HEAD']) {
      for (const tag of [`"${digest}"`, `W/"${digest}"`, `"other", "${digest}"`, '*']) {
        const answer = await at.send(`${method} /v2/a/manifests/v1`, { headers: { 'If-None-Match': tag } })
        expect(answer.status).toBe(304)
        expect(answer.headers.etag).toBe(`"${digest}"`)
        expect(answer.body).toHaveLength(0)
      }
      const other = await at.send(`${method} /v2/a/manifests/v1`, {
        headers: { 'If-None-Match': '"sha256:0"' },
      })
      expect(other.status).toBe(200)
    }
  })

  test('is unknown where the tag, the digest or the repository is', async () => {
    await using at = await openTestRegistry()
    const digest = await pushImage(at, 'a', 'v1')
    for (const path of [
      'a/manifests/v2',
      `a/manifests/${digestOf(Buffer.from('x'))}`,
      `b/manifests/${digest}`,
      'b/manifests/v1',
    ]) {
      expect(errorOf(await at.send(`GET /v2/${path}`))).toBe('404 MANIFEST_UNKNOWN')
    }
  })

  test('that was damaged in storage is not served, and the log says so', async () => {
    const driver = memoryDriver()
    await using writer = await openTestRegistry({ driver })
    const digest = await pushImage(writer, 'a', 'v1')
    await driver.write(blobKey(digest), Buffer.from('{}'))
    await using reader = await openTestRegistry({ driver, mayFail: true })
    expect(errorOf(await reader.send('GET /v2/a/manifests/v1'))).toBe('404 MANIFEST_UNKNOWN')
    expect(reader.lines.filter((line) => line.includes('damaged'))).toHaveLength(1)
  })
})

describe('end-2: a blob', () => {
  test('comes whole, with its digest, length and ETag', async () => {
    await using at = await openTestRegistry()
    const bytes = Buffer.alloc(1_000_003, 'stowage')
    for (const algorithm of ['sha256', 'sha512'] as const) {
      const digest = await pushBlob(at, 'a', bytes, algorithm)
      const answer = await at.send(`GET /v2/a/blobs/${digest}`)
      expect(answer.status).toBe(200)
      expect(answer.body.equals(bytes)).toBe(true)
      expect(answer.headers).toMatchObject({
        'content-type': 'application/octet-stream',
        'content-length': String(bytes.length),
        'docker-content-digest': digest,
        'accept-ranges': 'bytes',
        etag: `"${digest}"`,
      })
      expect(answer.headers).not.toHaveProperty('content-encoding')
    }
  })

  test('may be empty', async () => {
    await using at = await openTestRegistry()
    const digest = await pushBlob(at, 'a', '')
    const answer = await at.send(`GET /v2/a/blobs/${digest}`)
    expect(answer).toMatchObject({ status: 200, headers: { 'content-length': '0' } })
    const part = await at.send(`GET /v2/a/blobs/${digest}`, { headers: { Range: 'bytes=0-' } })
    expect(errorOf(part)).toBe('416 SIZE_INVALID')
    expect(part.headers['content-range']).toBe('bytes */0')
  })

  test.each([
    ['bytes=0-0', 0, 0],
    ['bytes=500-1499', 500, 1499],
    ['bytes=500-', 500, 1999],
    ['bytes=-500', 1500, 1999],
    ['bytes=-5000', 0, 1999],
    ['bytes=1999-1999', 1999, 1999],
    ['bytes=1000-99999999999999999999999999', 1000, 1999],
  ])('comes in part: %s', async (range, start, end) => {
    await using at = await openTestRegistry()
    const bytes = Buffer.from(Array.from({ length: 2000 }, (_, index) => index % 251))
    const digest = await pushBlob(at, 'a', bytes)
    const answer = await at.send(`GET /v2/a/blobs/${digest}`, { headers: { Range: range } })
    expect(answer.status).toBe(206)
    expect(answer.body).toEqual(bytes.subarray(start, end + 1))
    expect(answer.headers).toMatchObject({
      'content-range': `bytes ${start}-${end}/2000`,
      'content-length': String(end - start + 1),
      'docker-content-digest': digest,
    })
  })

  test.each([
    'bytes=2000-',
    'bytes=2000-5000',
    'bytes=500-0',
    'bytes=-0',
    'bytes=99999999999999999999999999-',
  ])('has no such part: %s', async (range) => {
    await using at = await openTestRegistry()
    const digest = await pushBlob(at, 'a', Buffer.alloc(2000))
    const answer = await at.send(`GET /v2/a/blobs/${digest}`, { headers: { Range: range } })
    expect(errorOf(answer)).toBe('416 SIZE_INVALID')
    expect(answer.headers['content-range']).toBe('bytes */2000')
  })

  test.each(['bytes=0-1,5-6', 'items=0-1', 'bytes', 'bytes=', 'bytes=-', 'bytes=a-b', 'bytes=0x1-2', '0-1'])(
    'comes whole where the range is none that we serve: %s',
    async (range) => {
      await using at = await openTestRegistry()
      const digest = await pushBlob(at, 'a', 'content')
      const answer = await at.send(`GET /v2/a/blobs/${digest}`, { headers: { Range: range } })
      expect(answer.status).toBe(200)
      expect(answer.body.toString()).toBe('content')
    },
  )

  test('comes in part only to a client that has a part of the same (If-Range)', async () => {
    await using at = await openTestRegistry()
    const digest = await pushBlob(at, 'a', 'content')
    const pull = (ifRange: string) =>
      at.send(`GET /v2/a/blobs/${digest}`, { headers: { Range: 'bytes=3-', 'If-Range': ifRange } })
    expect((await pull(`"${digest}"`)).body.toString()).toBe('tent')
    for (const other of ['"other"', `W/"${digest}"`, 'Wed, 21 Oct 2026 07:28:00 GMT']) {
      expect(await pull(other)).toMatchObject({ status: 200, body: Buffer.from('content') })
    }
  })

  test('is not sent again to a client that has it', async () => {
    await using at = await openTestRegistry()
    const digest = await pushBlob(at, 'a', 'content')
    for (const method of ['GET', 'HEAD']) {
      const answer = await at.send(`${method} /v2/a/blobs/${digest}`, {
        headers: { 'If-None-Match': `"${digest}"`, Range: 'bytes=0-1' },
      })
      expect(answer.status).toBe(304)
      expect(answer.headers.etag).toBe(`"${digest}"`)
      expect(answer.body).toHaveLength(0)
    }
  })

  test('is unknown in a repository that does not have it, whoever else does', async () => {
    await using at = await openTestRegistry()
    const digest = await pushBlob(at, 'a', 'content')
    for (const headers of [{}, { Range: 'bytes=0-' }, { 'If-None-Match': '*' }]) {
      expect(errorOf(await at.send(`GET /v2/b/blobs/${digest}`, { headers }))).toBe('404 BLOB_UNKNOWN')
      expect(errorOf(await at.send(`GET /v2/a/blobs/${digestOf(Buffer.from('x'))}`, { headers }))).toBe(
        '404 BLOB_UNKNOWN',
      )
    }
  })
})

describe('HEAD', () => {
  test('says of each endpoint what GET says, without its body', async () => {
    await using at = await openTestRegistry()
    const digest = await pushImage(at, 'a', 'v1')
    const blob = await pushBlob(at, 'a', 'content')
    const paths = [
      '/v2/',
      '/v2/_catalog',
      '/v2/a/tags/list?n=1',
      '/v2/a/manifests/v1',
      `/v2/a/manifests/${digest}`,
      `/v2/a/blobs/${blob}`,
      `/v2/a/referrers/${digest}`,
      // And its errors.
      '/v2/a/manifests/unknown',
      `/v2/b/blobs/${blob}`,
      '/v2/b/tags/list',
      '/v2/A/tags/list',
      '/nowhere',
    ]
    for (const path of paths) {
      const [get, head] = [await at.send(`GET ${path}`), await at.send(`HEAD ${path}`)]
      const { date: _, ...headers } = get.headers
      expect(head.status).toBe(get.status)
      expect(head.headers).toMatchObject(headers)
      expect(head.headers['content-length']).toBe(String(get.body.length))
      expect(head.body).toHaveLength(0)
    }
  })

  test('does not touch the bytes of a blob', async () => {
    const memory = memoryDriver()
    await using writer = await openTestRegistry({ driver: memory })
    const digest = await pushBlob(writer, 'a', 'content')
    let reads = 0
    const driver = {
      ...memory,
      stream: (...args: Parameters<typeof memory.stream>) => {
        reads++
        return memory.stream(...args)
      },
    }
    await using at = await openTestRegistry({ driver })
    expect((await at.send(`HEAD /v2/a/blobs/${digest}`)).headers['content-length']).toBe('7')
    expect(reads).toBe(0)
  })
})

describe('redirects', () => {
  test('a client that may is sent to the storage itself, by method', async () => {
    const driver = {
      ...memoryDriver(),
      presign: async (key: string, method: string) => `http://storage.example/${key}?method=${method}`,
    }
    await using at = await openTestRegistry({ driver, redirect: true })
    const digest = await pushBlob(at, 'a', 'content')
    for (const method of ['GET', 'HEAD']) {
      const answer = await at.send(`${method} /v2/a/blobs/${digest}`)
      expect(answer.status).toBe(307)
      expect(answer.headers).toMatchObject({
        location: `http://storage.example/${blobKey(digest)}?method=${method}`,
        'docker-content-digest': digest,
      })
      expect(errorOf(await at.send(`GET /v2/b/blobs/${digest}`))).toBe('404 BLOB_UNKNOWN')
    }
  })

  test('where the storage has no URLs it is served from here', async () => {
    await using at = await openTestRegistry({ redirect: true })
    const digest = await pushBlob(at, 'a', 'content')
    expect((await at.send(`GET /v2/a/blobs/${digest}`)).body.toString()).toBe('content')
    expect((await at.send(`HEAD /v2/a/blobs/${digest}`)).headers['content-length']).toBe('7')
  })
})

test('ns= of a client that takes us for a mirror is ignored', async () => {
  await using at = await openTestRegistry()
  const digest = await pushImage(at, 'a', 'v1')
  const blob = await pushBlob(at, 'a', 'content')
  for (const path of [
    'manifests/v1',
    `manifests/${digest}`,
    `blobs/${blob}`,
    'tags/list',
    `referrers/${digest}`,
  ]) {
    const plain = await at.send(`GET /v2/a/${path}`)
    const mirrored = await at.send(`GET /v2/a/${path}?ns=docker.io`)
    expect(mirrored.status).toBe(200)
    expect(mirrored.body).toEqual(plain.body)
    expect(mirrored.headers).not.toHaveProperty('oci-namespace')
  }
  expect(jsonOf(await at.send('GET /v2/_catalog?ns=docker.io'))).toEqual({ repositories: ['a'] })
})
