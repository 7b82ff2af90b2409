import { describe, expect, test } from '@jest/globals'
import { digestOf, type Digest } from '../../src/oci/digest.ts'
import { memoryDriver } from '../../src/storage/memory.ts'
import { StorageUnavailable, type Append } from '../../src/storage/driver.ts'
import { roots, uploadsFolder } from '../../src/registry/layout.ts'
import {
  errorOf,
  keysOf,
  openTestRegistry,
  pushBlob,
  startUpload,
  type TestRegistry,
} from '../support/registry.ts'
import { watchDriver } from '../support/watched-driver.ts'

const content = Buffer.from('the bytes of a blob')
const digest = digestOf(content)
const size = content.length
const idGrammar = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

async function expectBlob({ send }: TestRegistry, name: string, expected: Digest, bytes: Buffer) {
  const { status, body } = await send(`GET /v2/${name}/blobs/${expected}`)
  expect(status).toBe(200)
  expect(body.equals(bytes)).toBe(true)
}

async function expectNothingLeft({ driver }: TestRegistry) {
  expect(await keysOf(driver, uploadsFolder)).toEqual([])
}

async function* inChunks(...chunks: (string | Buffer)[]) {
  for (const chunk of chunks) yield Buffer.from(chunk)
}

describe('end-4a: a session', () => {
  test('has a relative Location, which ends in its UUID, and no bytes', async () => {
    await using at = await openTestRegistry()
    for (const path of ['/v2/a/b/blobs/uploads/', '/v2/a/b/blobs/uploads']) {
      const { status, headers, body } = await at.send(`POST ${path}`)
      const id = headers['docker-upload-uuid'] as string
      expect(status).toBe(202)
      expect(id).toMatch(idGrammar)
      expect(headers).toMatchObject({
        location: `/v2/a/b/blobs/uploads/${id}`,
        range: '0-0',
        'content-length': '0',
      })
      expect(body).toHaveLength(0)
    }
  })

  test('belongs to its repository alone', async () => {
    await using at = await openTestRegistry()
    const location = (await startUpload(at, 'a')).replace('/v2/a/', '/v2/b/')
    for (const method of ['GET', 'PATCH', 'PUT', 'DELETE']) {
      const answer = await at.send(`${method} ${location}?digest=${digest}`, {
        body: method === 'GET' ? '' : 'x',
      })
      expect(errorOf(answer)).toBe('404 BLOB_UPLOAD_UNKNOWN')
    }
  })

  test.each(['0', 'x', '00000000-0000-4000-8000-000000000000', '..', '%2e%2e%2f%2e%2e', '%00'])(
    'is unknown by the id %s',
    async (id) => {
      await using at = await openTestRegistry()
      for (const method of ['GET', 'PATCH', 'PUT', 'DELETE']) {
        const answer = await at.send(`${method} /v2/a/blobs/uploads/${id}?digest=${digest}`)
        expect(errorOf(answer)).toBe('404 BLOB_UPLOAD_UNKNOWN')
      }
    },
  )
})

describe('end-6: POST, then PUT', () => {
  test('stores a blob, with Content-Length or in chunks of unknown number', async () => {
    await using at = await openTestRegistry()
    for (const [name, body] of [
      ['a', content],
      ['b', inChunks('the bytes ', 'of a blob')],
    ] as const) {
      const location = await startUpload(at, name)
      const put = await at.send(`PUT ${location}?digest=${digest}`, { body })
      expect(put.status).toBe(201)
      expect(put.headers).toMatchObject({
        location: `/v2/${name}/blobs/${digest}`,
        'docker-content-digest': digest,
      })
      expect(put.body).toHaveLength(0)
      await expectBlob(at, name, digest, content)
    }
    await expectNothingLeft(at)
  })

  test('takes the same blob again, and verifies it all the same', async () => {
    await using at = await openTestRegistry()
    await pushBlob(at, 'a', content)
    const again = await at.send(`PUT ${await startUpload(at, 'a')}?digest=${digest}`, { body: content })
    expect(again.status).toBe(201)
    const location = await startUpload(at, 'a')
    const wrong = await at.send(`PUT ${location}?digest=${digest}`, { body: 'something else' })
    expect(errorOf(wrong)).toBe('400 DIGEST_INVALID')
    await expectBlob(at, 'a', digest, content)
  })

  test('refuses bytes that do not have the digest; the session stays usable', async () => {
    const watched = watchDriver(memoryDriver())
    await using at = await openTestRegistry(watched)
    const location = await startUpload(at, 'a')
    expect(errorOf(await at.send(`PUT ${location}?digest=${digest}`, { body: 'other' }))).toBe(
      '400 DIGEST_INVALID',
    )
    expect((await at.send(`HEAD /v2/a/blobs/${digest}`)).status).toBe(404)
    expect((await at.send(`GET ${location}`)).headers.range).toBe('0-0')
    expect((await at.send(`PUT ${location}?digest=${digest}`, { body: content })).status).toBe(201)
    await expectBlob(at, 'a', digest, content)
    await expectNothingLeft(at)
    expect(watched.openWrites()).toBe(0)
  })

  test.each([
    '',
    '?digest=',
    '?digest=sha256:abc',
    `?digest=md5:${'0'.repeat(32)}`,
    `?digest=SHA256:${'0'.repeat(64)}`,
  ])('refuses a digest that is none; the session stays usable: "%s"', async (query) => {
    await using at = await openTestRegistry()
    const location = await startUpload(at, 'a')
    expect(errorOf(await at.send(`PUT ${location}${query}`, { body: content }))).toBe('400 DIGEST_INVALID')
    expect((await at.send(`PUT ${location}?digest=${digest}`, { body: content })).status).toBe(201)
  })

  test('of nothing stores the empty blob', async () => {
    await using at = await openTestRegistry()
    const empty = digestOf(Buffer.alloc(0))
    const location = await startUpload(at, 'a')
    expect((await at.send(`PUT ${location}?digest=${empty}`)).status).toBe(201)
    await expectBlob(at, 'a', empty, Buffer.alloc(0))
  })

  test('without the bytes refuses the digest of something', async () => {
    await using at = await openTestRegistry()
    const location = await startUpload(at, 'a')
    expect(errorOf(await at.send(`PUT ${location}?digest=${digest}`))).toBe('400 DIGEST_INVALID')
    expect((await at.send(`GET ${location}`)).status).toBe(204)
  })
})

describe('end-4b: a single POST', () => {
  test('stores a blob', async () => {
    await using at = await openTestRegistry()
    for (const [name, body] of [
      ['a', content],
      ['b', inChunks('the bytes ', 'of a blob')],
    ] as const) {
      const post = await at.send(`POST /v2/${name}/blobs/uploads/?digest=${digest}`, { body })
      expect(post.status).toBe(201)
      expect(post.headers).toMatchObject({
        location: `/v2/${name}/blobs/${digest}`,
        'docker-content-digest': digest,
      })
      await expectBlob(at, name, digest, content)
    }
    await expectNothingLeft(at)
  })

  test('refuses bytes that do not have the digest, and leaves nothing', async () => {
    const watched = watchDriver(memoryDriver())
    await using at = await openTestRegistry(watched)
    const post = await at.send(`POST /v2/a/blobs/uploads/?digest=${digest}`, { body: 'other' })
    expect(errorOf(post)).toBe('400 DIGEST_INVALID')
    expect((await at.send(`HEAD /v2/a/blobs/${digest}`)).status).toBe(404)
    expect(await keysOf(at.driver, roots.distribution)).toEqual([])
    await expectNothingLeft(at)
    expect(watched.openWrites()).toBe(0)
  })

  test('refuses a digest that is none before it reads the body', async () => {
    await using at = await openTestRegistry()
    const post = await at.send('POST /v2/a/blobs/uploads/?digest=sha256:x', { body: content })
    expect(errorOf(post)).toBe('400 DIGEST_INVALID')
  })
})

describe('end-4c: another algorithm', () => {
  const sha512 = digestOf(content, 'sha512')

  test('may be announced when the session begins', async () => {
    await using at = await openTestRegistry()
    const { status, headers } = await at.send('POST /v2/a/blobs/uploads/?digest-algorithm=sha512')
    expect(status).toBe(202)
    await at.send(`PATCH ${headers.location}`, { body: content })
    const put = await at.send(`PUT ${headers.location}?digest=${sha512}`)
    expect(put).toMatchObject({ status: 201, headers: { 'docker-content-digest': sha512 } })
    await expectBlob(at, 'a', sha512, content)
    expect((await at.send(`HEAD /v2/a/blobs/${digest}`)).status).toBe(404)
  })

  test.each([
    ['sha256', sha512],
    ['sha512', digest],
  ])('may come as a surprise in the last PUT, after %s was announced', async (announced, final) => {
    await using at = await openTestRegistry()
    const { headers } = await at.send(`POST /v2/a/blobs/uploads/?digest-algorithm=${announced}`)
    await at.send(`PATCH ${headers.location}`, { body: content.subarray(0, 5) })
    const put = await at.send(`PUT ${headers.location}?digest=${final}`, { body: content.subarray(5) })
    expect(put).toMatchObject({ status: 201, headers: { 'docker-content-digest': final } })
    await expectBlob(at, 'a', final, content)
  })

  test.each(['', 'md5', 'SHA512', 'toString', '__proto__'])(
    'is refused where nobody knows it: "%s"',
    async (algorithm) => {
      await using at = await openTestRegistry()
      const post = await at.send(`POST /v2/a/blobs/uploads/?digest-algorithm=${algorithm}`)
      expect(errorOf(post)).toBe('400 DIGEST_INVALID')
      await expectNothingLeft(at)
    },
  )
})

describe('end-5: chunks', () => {
  test('make a blob, with and without Content-Range, the last one in the PUT', async () => {
    await using at = await openTestRegistry()
    const location = await startUpload(at, 'a')
    const first = await at.send(`PATCH ${location}`, {
      body: content.subarray(0, 4),
      headers: { 'Content-Range': '0-3', 'Content-Type': 'application/octet-stream' },
    })
    expect(first).toMatchObject({ status: 202, headers: { location, range: '0-3', 'content-length': '0' } })
    expect(first.headers['docker-upload-uuid']).toBe(location.split('/').at(-1))
    const second = await at.send(`PATCH ${location}`, {
      body: inChunks(content.subarray(4, 6), content.subarray(6, 9)),
    })
    expect(second).toMatchObject({ status: 202, headers: { range: '0-8' } })
    expect(await at.send(`GET ${location}`)).toMatchObject({
      status: 204,
      headers: { location, range: '0-8' },
    })
    const put = await at.send(`PUT ${location}?digest=${digest}`, {
      body: content.subarray(9),
      headers: { 'Content-Range': `9-${size - 1}` },
    })
    expect(put).toMatchObject({ status: 201, headers: { location: `/v2/a/blobs/${digest}` } })
    await expectBlob(at, 'a', digest, content)
    await expectNothingLeft(at)
  })

  test('as Docker sends them: one PATCH stream, an empty PUT, a HEAD', async () => {
    await using at = await openTestRegistry()
    const location = await startUpload(at, 'a')
    const patch = await at.send(`PATCH ${location}`, { body: inChunks(...content.toString().split('')) })
    expect(patch).toMatchObject({ status: 202, headers: { range: `0-${size - 1}` } })
    expect((await at.send(`PUT ${location}?digest=${digest}`)).status).toBe(201)
    expect((await at.send(`HEAD /v2/a/blobs/${digest}`)).headers['content-length']).toBe(String(size))
  })

  test('of one byte each, and an empty one, are taken', async () => {
    await using at = await openTestRegistry()
    const location = await startUpload(at, 'a')
    for (const [index, byte] of content.entries()) {
      const patch = await at.send(`PATCH ${location}`, {
        body: Buffer.from([byte]),
        headers: { 'Content-Range': `${index}-${index}` },
      })
      expect(patch.headers.range).toBe(`0-${index}`)
    }
    expect((await at.send(`PATCH ${location}`)).headers.range).toBe(`0-${size - 1}`)
    expect((await at.send(`PUT ${location}?digest=${digest}`)).status).toBe(201)
    await expectBlob(at, 'a', digest, content)
  })

  test.each([
    ['PATCH', '5-9'],
    ['PATCH', '3-7'],
    ['PATCH', '0-4'],
    ['PUT', '5-9'],
    ['PUT', '3-7'],
    ['PUT', '0-4'],
  ])('out of order get 416, and the session stays usable: %s %s', async (method, range) => {
    await using at = await openTestRegistry()
    const location = await startUpload(at, 'a')
    await at.send(`PATCH ${location}`, { body: content.subarray(0, 4) })
    const answer = await at.send(`${method} ${location}?digest=${digest}`, {
      body: Buffer.alloc(5),
      headers: { 'Content-Range': range },
    })
    expect(errorOf(answer)).toBe('416 BLOB_UPLOAD_INVALID')
    expect(answer.headers.range).toBe('0-3')
    expect(await at.send(`GET ${location}`)).toMatchObject({
      status: 204,
      headers: { location, range: '0-3' },
    })
    const rest = await at.send(`PATCH ${location}`, {
      body: content.subarray(4),
      headers: { 'Content-Range': `4-${size - 1}` },
    })
    expect(rest.status).toBe(202)
    expect((await at.send(`PUT ${location}?digest=${digest}`)).status).toBe(201)
    await expectBlob(at, 'a', digest, content)
  })

  test('must begin at 0', async () => {
    await using at = await openTestRegistry()
    const location = await startUpload(at, 'a')
    for (const method of ['PATCH', 'PUT']) {
      const answer = await at.send(`${method} ${location}?digest=${digest}`, {
        body: 'x',
        headers: { 'Content-Range': '1-1' },
      })
      expect(errorOf(answer)).toBe('416 BLOB_UPLOAD_INVALID')
    }
    expect((await at.send(`PUT ${location}?digest=${digest}`, { body: content })).status).toBe(201)
  })

  test('may not differ from what their Content-Range says', async () => {
    await using at = await openTestRegistry()
    const location = await startUpload(at, 'a')
    for (const [method, range] of [
      ['PATCH', '0-9'],
      ['PATCH', '0-0'],
      ['PUT', '0-9'],
    ] as const) {
      const answer = await at.send(`${method} ${location}?digest=${digest}`, {
        body: 'abc',
        headers: { 'Content-Range': range },
      })
      expect(errorOf(answer)).toBe('400 SIZE_INVALID')
    }
    expect((await at.send(`GET ${location}`)).headers.range).toBe('0-0')
  })

  test('that were sent twice, since the answer was lost, get 416 and count once', async () => {
    await using at = await openTestRegistry()
    const location = await startUpload(at, 'a')
    const chunk = { body: content.subarray(0, 7), headers: { 'Content-Range': '0-6' } }
    expect((await at.send(`PATCH ${location}`, chunk)).status).toBe(202)
    expect(errorOf(await at.send(`PATCH ${location}`, chunk))).toBe('416 BLOB_UPLOAD_INVALID')
    const { headers } = await at.send(`GET ${location}`)
    expect(headers.range).toBe('0-6')
    expect(
      (await at.send(`PUT ${headers.location}?digest=${digest}`, { body: content.subarray(7) })).status,
    ).toBe(201)
  })

  test('do not add up to another digest; the session stays, with what it has', async () => {
    await using at = await openTestRegistry()
    const location = await startUpload(at, 'a')
    await at.send(`PATCH ${location}`, { body: content })
    const other = digestOf(Buffer.from('other'))
    expect(errorOf(await at.send(`PUT ${location}?digest=${other}`))).toBe('400 DIGEST_INVALID')
    expect((await at.send(`HEAD /v2/a/blobs/${other}`)).status).toBe(404)
    expect((await at.send(`GET ${location}`)).headers.range).toBe(`0-${size - 1}`)
    expect((await at.send(`PUT ${location}?digest=${digest}`)).status).toBe(201)
  })

  test('of two clients in one session: one is taken, the other is told where the session is', async () => {
    await using at = await openTestRegistry()
    const location = await startUpload(at, 'a')
    const begun = Promise.withResolvers<void>()
    const goOn = Promise.withResolvers<void>()
    async function* slowly() {
      yield content.subarray(0, 3)
      begun.resolve()
      await goOn.promise
      yield content.subarray(3, 5)
    }
    const slow = at.send(`PATCH ${location}`, { body: slowly() })
    await begun.promise
    const fast = await at.send(`PATCH ${location}`, { body: content.subarray(0, 7) })
    expect(fast).toMatchObject({ status: 202, headers: { range: '0-6' } })
    goOn.resolve()
    const late = await slow
    expect(errorOf(late)).toBe('416 BLOB_UPLOAD_INVALID')
    expect(late.headers.range).toBe('0-6')
    expect((await at.send(`PUT ${location}?digest=${digest}`, { body: content.subarray(7) })).status).toBe(
      201,
    )
    await expectBlob(at, 'a', digest, content)
    await expectNothingLeft(at)
  })

  test('which the storage failed to take are sent again, and make the blob', async () => {
    const memory = memoryDriver()
    let fails = false
    const driver = {
      ...memory,
      async append(prefix: string, offset: number): Promise<Append> {
        const append = await memory.append(prefix, offset)
        return {
          ...append,
          async write(chunk) {
            if (fails) throw new StorageUnavailable('slow down', { retryAfterSeconds: 3 })
            await append.write(chunk)
          },
        }
      },
    }
    await using at = await openTestRegistry({ driver, mayFail: true })
    const location = await startUpload(at, 'a')
    await at.send(`PATCH ${location}`, { body: content.subarray(0, 4) })
    fails = true
    const failed = await at.send(`PATCH ${location}`, { body: content.subarray(4) })
    expect(errorOf(failed)).toBe('503 UNAVAILABLE')
    expect(failed.headers['retry-after']).toBe('3')
    fails = false
    expect((await at.send(`GET ${location}`)).headers.range).toBe('0-3')
    expect((await at.send(`PUT ${location}?digest=${digest}`, { body: content.subarray(4) })).status).toBe(
      201,
    )
    await expectBlob(at, 'a', digest, content)
  })
})

describe('end-13: the state of a session', () => {
  test('is gone when it is finished or cancelled', async () => {
    await using at = await openTestRegistry()
    const finished = await startUpload(at, 'a')
    await at.send(`PUT ${finished}?digest=${digest}`, { body: content })
    const cancelled = await startUpload(at, 'a')
    await at.send(`DELETE ${cancelled}`)
    for (const location of [finished, cancelled]) {
      for (const method of ['GET', 'PATCH', 'PUT', 'DELETE']) {
        const answer = await at.send(`${method} ${location}?digest=${digest}`)
        expect(errorOf(answer)).toBe('404 BLOB_UPLOAD_UNKNOWN')
      }
    }
  })
})

describe('end-14: cancel', () => {
  test('removes the session and what it received', async () => {
    await using at = await openTestRegistry()
    const location = await startUpload(at, 'a')
    await at.send(`PATCH ${location}`, { body: content })
    const answer = await at.send(`DELETE ${location}`)
    expect(answer.status).toBe(204)
    expect(answer.body).toHaveLength(0)
    expect(answer.headers).not.toHaveProperty('content-length')
    await expectNothingLeft(at)
    expect((await at.send(`HEAD /v2/a/blobs/${digest}`)).status).toBe(404)
  })
})

describe('end-11: a mount', () => {
  test('from a repository that has the blob puts it into this one', async () => {
    await using at = await openTestRegistry()
    await pushBlob(at, 'a/b', content)
    const post = await at.send(`POST /v2/c/blobs/uploads/?mount=${digest}&from=a/b`)
    expect(post).toMatchObject({
      status: 201,
      headers: { location: `/v2/c/blobs/${digest}`, 'docker-content-digest': digest },
    })
    await expectBlob(at, 'c', digest, content)
    await at.send(`DELETE /v2/a/b/blobs/${digest}`)
    await expectBlob(at, 'c', digest, content)
  })

  test('without from takes the blob from wherever it is', async () => {
    await using at = await openTestRegistry()
    await pushBlob(at, 'a', content)
    for (const query of ['', '&from=']) {
      expect((await at.send(`POST /v2/c/blobs/uploads/?mount=${digest}${query}`)).status).toBe(201)
    }
    await expectBlob(at, 'c', digest, content)
  })

  test.each(['&from=a', '&from=nobody', ''])(
    'of what is not there is a 202 with a usable session: "%s"',
    async (from) => {
      await using at = await openTestRegistry()
      await pushBlob(at, 'a', 'something else')
      const post = await at.send(`POST /v2/c/blobs/uploads/?mount=${digest}${from}`)
      expect(post.status).toBe(202)
      expect(post.headers).toMatchObject({
        range: '0-0',
        'docker-upload-uuid': expect.stringMatching(idGrammar),
      })
      expect((await at.send(`PUT ${post.headers.location}?digest=${digest}`, { body: content })).status).toBe(
        201,
      )
      await expectBlob(at, 'c', digest, content)
    },
  )

  test('from a repository that had the blob, and lost it, is a 202', async () => {
    await using at = await openTestRegistry()
    await pushBlob(at, 'a', content)
    await at.send(`DELETE /v2/a/blobs/${digest}`)
    expect((await at.send(`POST /v2/c/blobs/uploads/?mount=${digest}&from=a`)).status).toBe(202)
    expect((await at.send(`HEAD /v2/c/blobs/${digest}`)).status).toBe(404)
  })

  test('of a digest, or from a name, that is none is refused', async () => {
    await using at = await openTestRegistry()
    expect(errorOf(await at.send('POST /v2/c/blobs/uploads/?mount=x&from=a'))).toBe('400 DIGEST_INVALID')
    expect(errorOf(await at.send('POST /v2/c/blobs/uploads/?mount='))).toBe('400 DIGEST_INVALID')
    expect(errorOf(await at.send(`POST /v2/c/blobs/uploads/?mount=${digest}&from=A`))).toBe(
      '400 NAME_INVALID',
    )
    expect(errorOf(await at.send(`POST /v2/c/blobs/uploads/?mount=${digest}&from=../a`))).toBe(
      '400 NAME_INVALID',
    )
    await expectNothingLeft(at)
  })
})
