import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import Koa from 'koa'
import { systemClock } from '../../src/clock.ts'
import { renderErrors } from '../../src/http/render-errors.ts'
import { listen } from '../../src/http/server.ts'
import { errorCodes, OciError, type ErrorCode } from '../../src/oci/errors.ts'
import { StorageUnavailable, type Driver } from '../../src/storage/driver.ts'
import { memoryDriver } from '../../src/storage/memory.ts'
import { createLog } from '../../src/telemetry/log.ts'
import {
  bytesOf,
  errorOf,
  imageOf,
  jsonOf,
  openTestRegistry,
  pushBlob,
  pushImage,
  startUpload,
  type TestRegistry,
} from '../support/registry.ts'

const zero = `sha256:${'0'.repeat(64)}`
const id = '00000000-0000-4000-8000-000000000000'

const specifiedCodes = [
  'BLOB_UNKNOWN',
  'BLOB_UPLOAD_INVALID',
  'BLOB_UPLOAD_UNKNOWN',
  'DIGEST_INVALID',
  'MANIFEST_BLOB_UNKNOWN',
  'MANIFEST_INVALID',
  'MANIFEST_UNKNOWN',
  'NAME_INVALID',
  'NAME_UNKNOWN',
  'SIZE_INVALID',
  'UNAUTHORIZED',
  'DENIED',
  'UNSUPPORTED',
  'TOOMANYREQUESTS',
  'TAG_INVALID',
]

describe('the renderer', () => {
  /** What a request gets of whom this is thrown. */
  async function render(thrown: unknown, method = 'GET') {
    const lines: string[] = []
    const log = createLog({
      level: 'debug',
      format: 'json',
      destination: { write: (line) => lines.push(line) },
    })
    const app = new Koa()
    app.use(renderErrors(log)).use(() => {
      throw thrown
    })
    const server = await listen(app.callback(), { host: '127.0.0.1', port: 0, clock: systemClock })
    const answer = await fetch(`http://127.0.0.1:${server.port}/v2/a/tags/list`, { method })
    const body = await answer.text()
    await server.drain(0)
    return { status: answer.status, headers: Object.fromEntries(answer.headers), body, lines }
  }

  test.each(Object.entries(errorCodes))(
    'gives %s its status and the form of the specification',
    async (code, { status, message }) => {
      const answer = await render(new OciError(code as ErrorCode))
      expect(answer).toMatchObject({
        status,
        headers: { 'content-type': 'application/json', 'docker-distribution-api-version': 'registry/2.0' },
      })
      expect(JSON.parse(answer.body)).toEqual({ errors: [{ code: expect.any(String), message }] })
      // "The `code` field MUST be one of the following", which is said of 4XX; TAG_INVALID is a legacy code.
      const shown = (JSON.parse(answer.body) as { errors: { code: string }[] }).errors[0]?.code
      if (status < 500) expect(specifiedCodes).toContain(shown)
      if (specifiedCodes.includes(code)) expect(shown).toBe(code)
      const head = await render(new OciError(code as ErrorCode), 'HEAD')
      expect(head).toMatchObject({
        status,
        body: '',
        headers: { 'content-length': String(answer.body.length) },
      })
    },
  )

  test.each([
    [
      'UNAUTHORIZED',
      401,
      {
        'www-authenticate':
          'Bearer realm="https://auth.example/token",service="registry",scope="repository:a:pull"',
      },
    ],
    ['DENIED', 403, { 'www-authenticate': 'Bearer error="insufficient_scope"' }],
    ['TOOMANYREQUESTS', 429, { 'retry-after': '7' }],
    ['UNAVAILABLE', 503, { 'retry-after': '30' }],
  ] as const)('passes on the headers that belong to %s', async (code, status, headers) => {
    const answer = await render(new OciError(code, { headers, detail: [{ Type: 'repository' }] }))
    expect(answer).toMatchObject({ status, headers })
    expect(JSON.parse(answer.body)).toMatchObject({ errors: [{ code, detail: [{ Type: 'repository' }] }] })
  })

  test('says of what nobody expected only that the log knows more, and the log does, once', async () => {
    for (const thrown of [new TypeError('secret'), 'secret']) {
      const { status, body, lines } = await render(thrown)
      expect(status).toBe(500)
      expect(body).not.toContain('secret')
      expect(JSON.parse(body)).toMatchObject({ errors: [{ code: 'UNKNOWN' }] })
      expect(lines).toHaveLength(1)
      expect(JSON.parse(lines[0] ?? '')).toMatchObject({
        level: 'error',
        method: 'GET',
        path: '/v2/a/tags/list',
        err: expect.anything(),
      })
    }
  })

  test('logs no refusal: they are the business of clients', async () => {
    expect((await render(new OciError('NAME_INVALID'))).lines).toEqual([])
  })
})

describe('paths and methods', () => {
  let at: TestRegistry
  beforeAll(async () => {
    at = await openTestRegistry()
  })
  afterAll(async () => at[Symbol.asyncDispose]())

  test.each([
    '/',
    '/v2/x',
    '/v2/a',
    '/v2/a/',
    '/v2/a/manifests',
    '/v2/a/manifests/',
    '/v2/a/blobs/',
    '/v2/a/tags',
    '/v2/a/tags/list/',
    '/v2/a/tags/list/x',
    '/v2/manifests/x',
    '/v2/a/referrers/',
    '/v2/_catalog/',
    '/v2/a/_catalog',
    '/v1/',
    '/v2.',
    '/v22/',
    '/V2/',
    '//v2/',
    '/v2//',
    '/favicon.ico',
    `/v2/blobs/${zero}`,
  ])('the path %s is answered 404 in JSON', async (path) => {
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']) {
      expect(errorOf(await at.send(`${method} ${path}`))).toBe('404 UNSUPPORTED')
    }
    expect(await at.send(`HEAD ${path}`)).toMatchObject({
      status: 404,
      headers: { 'content-type': 'application/json' },
    })
  })

  test.each([
    ['/v2/', 'GET, HEAD'],
    ['/v2/_catalog', 'GET, HEAD'],
    ['/v2/a/tags/list', 'GET, HEAD'],
    [`/v2/a/referrers/${zero}`, 'GET, HEAD'],
    ['/v2/a/manifests/v1', 'DELETE, GET, HEAD, PUT'],
    [`/v2/a/blobs/${zero}`, 'DELETE, GET, HEAD'],
    ['/v2/a/blobs/uploads/', 'POST'],
    [`/v2/a/blobs/uploads/${id}`, 'DELETE, GET, HEAD, PATCH, PUT'],
  ])('at %s what is not allowed is answered 405 with Allow', async (path, allowed) => {
    const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND']
    for (const method of methods.filter((one) => !allowed.split(', ').includes(one))) {
      const answer = await at.send(`${method} ${path}`)
      expect(answer.status).toBe(405)
      expect(String(answer.headers.allow).split(', ').toSorted().join(', ')).toBe(allowed)
      if (method !== 'HEAD') expect(errorOf(answer)).toBe('405 UNSUPPORTED')
    }
  })

  const badNames = [
    'A',
    'a_',
    '-a',
    'a..b',
    'a.',
    '_',
    'a/_b',
    'a//b',
    'a/../b',
    '..',
    'a b',
    'a+b',
    'ä',
    'a\u0000',
    'a\n',
    '%',
    'a'.repeat(256),
    'a/'.repeat(200) + 'a',
    '__proto__',
  ]
  test.each(badNames)('the name %j is refused by every endpoint', async (name) => {
    const path = name.split('/').map(encodeURIComponent).join('/').replaceAll('.', '%2e')
    for (const target of [
      `GET /v2/${path}/tags/list`,
      `GET /v2/${path}/manifests/v1`,
      `PUT /v2/${path}/manifests/v1`,
      `DELETE /v2/${path}/manifests/v1`,
      `GET /v2/${path}/blobs/${zero}`,
      `DELETE /v2/${path}/blobs/${zero}`,
      `POST /v2/${path}/blobs/uploads/`,
      `GET /v2/${path}/blobs/uploads/${id}`,
      `PATCH /v2/${path}/blobs/uploads/${id}`,
      `PUT /v2/${path}/blobs/uploads/${id}?digest=${zero}`,
      `DELETE /v2/${path}/blobs/uploads/${id}`,
      `GET /v2/${path}/referrers/${zero}`,
    ]) {
      expect(errorOf(await at.send(target))).toBe('400 NAME_INVALID')
    }
  })

  test.each(['-', '.a', 'a b', 'ä', 'a\u0000', 'a\r\nb', 'a/b', 'x'.repeat(129), '..', '%2e'])(
    'the tag %j is refused by every endpoint',
    async (tag) => {
      for (const method of ['GET', 'PUT', 'DELETE']) {
        const answer = await at.send(
          `${method} /v2/a/manifests/${encodeURIComponent(tag).replaceAll('.', '%2e')}`,
        )
        expect(errorOf(answer)).toBe('400 TAG_INVALID')
      }
    },
  )

  const badDigests = [
    ':',
    'sha256:',
    'sha256',
    `sha256:${'0'.repeat(63)}`,
    `sha256:${'0'.repeat(65)}`,
    `sha256:${'0'.repeat(63)}g`,
    `sha256:${'A'.repeat(64)}`,
    `SHA256:${'0'.repeat(64)}`,
    `sha512:${'0'.repeat(64)}`,
    `sha1:${'0'.repeat(40)}`,
    `sha256:${'0'.repeat(64)} `,
    `sha256:${'0'.repeat(64)}\n`,
    `sha256:sha256:${'0'.repeat(57)}`,
    `toString:${'0'.repeat(64)}`,
    `sha256:${'../'.repeat(21)}x`,
  ]
  test.each(badDigests)('the digest %j is refused by every endpoint', async (digest) => {
    const text = encodeURIComponent(digest).replaceAll('.', '%2e')
    for (const target of [
      `GET /v2/a/blobs/${text}`,
      `DELETE /v2/a/blobs/${text}`,
      `GET /v2/a/referrers/${text}`,
      `POST /v2/a/blobs/uploads/?digest=${text}`,
      `POST /v2/a/blobs/uploads/?mount=${text}`,
      ...(digest.includes(':')
        ? [`GET /v2/a/manifests/${text}`, `DELETE /v2/a/manifests/${text}`, `PUT /v2/a/manifests/${text}`]
        : []),
    ]) {
      expect(errorOf(await at.send(target))).toBe('400 DIGEST_INVALID')
    }
  })

  test.each(['%', '%2', '%zz', '%ff', '%c0%ae%c0%ae', 'a%e0%80%af'])(
    '%s is not percent-encoded UTF-8',
    async (name) => {
      expect(errorOf(await at.send(`GET /v2/${name}/tags/list`))).toBe('400 UNSUPPORTED')
      expect(errorOf(await at.send(`GET /v2/a/manifests/${name}`))).toBe('400 UNSUPPORTED')
    },
  )

  test('a name may be percent-encoded, once', async () => {
    await pushImage(at, 'en/coded', 'v1')
    expect((await at.send('GET /v2/en%2Fcod%65d/manifests/v%31')).status).toBe(200)
    expect(errorOf(await at.send('GET /v2/en%252Fcoded/manifests/v1'))).toBe('400 NAME_INVALID')
  })

  test.each([
    '4-3',
    '-1-3',
    '0',
    '0-',
    '-3',
    'a-b',
    '0-3,4-5',
    '0-0x3',
    '0-99999999999999999999',
    '18446744073709551616-18446744073709551619',
    `0-${'9'.repeat(400)}`,
    '0 - 3',
    '0-3/4/5',
    '٠-٣',
  ])('the Content-Range %s is refused, and the session stays usable', async (range) => {
    const location = await startUpload(at, 'a')
    for (const method of ['PATCH', 'PUT']) {
      const headers = { 'Content-Range': Buffer.from(range).toString('latin1') }
      const answer = await at.send(`${method} ${location}?digest=${zero}`, { body: 'abcd', headers })
      expect(errorOf(answer)).toBe('416 BLOB_UPLOAD_INVALID')
    }
    expect((await at.send(`GET ${location}`)).headers.range).toBe('0-0')
  })

  test('names and tags that mean something to JavaScript mean nothing here', async () => {
    const digest = await pushImage(at, 'constructor', '__proto__')
    expect((await at.send('GET /v2/constructor/manifests/__proto__')).headers['docker-content-digest']).toBe(
      digest,
    )
    expect(jsonOf(await at.send('GET /v2/constructor/tags/list'))).toEqual({
      name: 'constructor',
      tags: ['__proto__'],
    })
    expect(errorOf(await at.send('GET /v2/constructor/manifests/toString'))).toBe('404 MANIFEST_UNKNOWN')
  })
})

describe('a storage that does not answer', () => {
  /** Memory that can be switched off: then every verb fails as a bucket does that asks for patience. */
  function memoryWithSwitch(error: () => Error) {
    const memory = memoryDriver()
    const state = { isOff: false }
    const guard = <
      K extends 'stat' | 'read' | 'stream' | 'write' | 'upload' | 'append' | 'compose' | 'remove',
    >(
      verb: K,
    ) =>
      ((...args: Parameters<Driver[K]>) => {
        if (state.isOff) return Promise.reject(error())
        return (memory[verb] as (...args: Parameters<Driver[K]>) => unknown)(...args)
      }) as Driver[K]
    async function* listed<T>(list: () => AsyncIterable<T>) {
      if (state.isOff) throw error()
      yield* list()
    }
    const driver: Driver = {
      ...memory,
      stat: guard('stat'),
      read: guard('read'),
      stream: guard('stream'),
      write: guard('write'),
      upload: guard('upload'),
      append: guard('append'),
      compose: guard('compose'),
      remove: guard('remove'),
      list: (...args) => listed(() => memory.list(...args)),
      listNames: (...args) => listed(() => memory.listNames(...args)),
    }
    return { driver, state }
  }

  async function requestAll(at: TestRegistry, state: { isOff: boolean }): Promise<string[]> {
    const digest = await pushImage(at, 'a', 'v1')
    const blob = await pushBlob(at, 'a', 'content')
    const upload = await startUpload(at, 'a')
    const targets = [
      'GET /v2/_catalog',
      'GET /v2/a/tags/list',
      'GET /v2/a/manifests/v1',
      `GET /v2/a/manifests/${digest}`,
      'PUT /v2/a/manifests/v2',
      'DELETE /v2/a/manifests/v1',
      `DELETE /v2/a/manifests/${digest}`,
      `GET /v2/a/blobs/${blob}`,
      `DELETE /v2/a/blobs/${blob}`,
      'POST /v2/a/blobs/uploads/',
      `POST /v2/a/blobs/uploads/?digest=${blob}`,
      `POST /v2/b/blobs/uploads/?mount=${blob}&from=a`,
      `GET ${upload}`,
      `PATCH ${upload}`,
      `PUT ${upload}?digest=${blob}`,
      `DELETE ${upload}`,
      `GET /v2/a/referrers/${digest}`,
    ]
    state.isOff = true
    const results: string[] = []
    for (const target of targets) {
      const body = target.startsWith('PUT /v2/a/manifests') ? bytesOf(imageOf(['layer'])) : 'content'
      const answer = await at.send(target, target.startsWith('GET') ? {} : { body })
      results.push(`${errorOf(answer)} ${answer.headers['retry-after']}`)
    }
    const head = await at.send(`HEAD /v2/a/blobs/${blob}`)
    results.push(`${head.status} UNAVAILABLE ${head.headers['retry-after']}`)
    state.isOff = false
    // Nothing was made, and nothing was lost.
    expect((await at.send('GET /v2/a/manifests/v1')).status).toBe(200)
    expect((await at.send(`GET /v2/a/blobs/${blob}`)).body.toString()).toBe('content')
    expect((await at.send('HEAD /v2/a/manifests/v2')).status).toBe(404)
    expect((await at.send(`GET ${upload}`)).headers.range).toBe('0-0')
    expect((await at.send('GET /v2/')).status).toBe(200)
    return results
  }

  test('is a 503 with Retry-After at every endpoint', async () => {
    const { driver, state } = memoryWithSwitch(
      () => new StorageUnavailable('slow down', { retryAfterSeconds: 9 }),
    )
    await using at = await openTestRegistry({ driver, mayFail: true })
    const results = await requestAll(at, state)
    expect(new Set(results)).toEqual(new Set(['503 UNAVAILABLE 9']))
  })

  test('that breaks in the middle of a blob cuts the connection, and the log says so', async () => {
    const memory = memoryDriver()
    async function* broken(body: AsyncIterable<Buffer>) {
      for await (const chunk of body) {
        yield chunk.subarray(0, 1000)
        throw new Error('the disk is on fire')
      }
    }
    async function* short(body: AsyncIterable<Buffer>) {
      for await (const chunk of body) yield chunk.subarray(0, 1000)
    }
    for (const [damage, reason] of [
      [broken, 'the disk is on fire'],
      [short, '1000 bytes where 5000 were expected'],
    ] as const) {
      const driver: Driver = {
        ...memory,
        async stream(key, options) {
          const found = await memory.stream(key, options)
          return found && { ...found, body: damage(found.body) }
        },
      }
      await using at = await openTestRegistry({ driver, mayFail: true })
      const digest = await pushBlob(at, 'a', Buffer.alloc(5000))
      await expect(at.send(`GET /v2/a/blobs/${digest}`)).rejects.toThrow('aborted')
      const errors = at.lines.filter((line) => line.includes('"level":"error"'))
      expect(errors).toHaveLength(1)
      expect(errors[0]).toContain('an answer was cut short')
      expect(errors[0]).toContain(reason)
    }
  })
})
