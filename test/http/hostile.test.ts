/** Bytes that no client of good will sends: a clear refusal or a closed connection, and nothing else changes. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { isDeepStrictEqual } from 'node:util'
import { digestOf } from '../../src/oci/digest.ts'
import { uploadsFolder } from '../../src/registry/layout.ts'
import {
  keysOf,
  openTestRegistry,
  pushBlob,
  pushImage,
  startUpload,
  type TestRegistry,
  until,
} from '../support/registry.ts'
import { openRaw, sayRaw } from '../support/raw-connection.ts'

const content = 'content'
const digest = digestOf(Buffer.from(content))
const host = 'Host: registry.example\r\nConnection: close\r\n'

/** The status lines in what a server said, in their order, without interim ones. */
function statusesIn(text: string): number[] {
  return [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)]
    .map(([, status]) => Number(status))
    .filter((status) => status >= 200)
}

function errorsIn(text: string): unknown {
  expect(text).toMatch(/^content-type: application\/json\r$/im)
  return JSON.parse(text.slice(text.indexOf('\r\n\r\n') + 4))
}

let at: TestRegistry
beforeAll(async () => {
  at = await openTestRegistry()
  await pushImage(at, 'a', 'v1')
  await pushBlob(at, 'a', content)
})
afterAll(async () => at[Symbol.asyncDispose]())

/** Expects a refusal, or an end without a word, and a registry that is as it was. */
async function expectRefusal(bytes: string | Buffer): Promise<void> {
  const before = await keysOf(at.driver)
  const answer = await sayRaw(at.port, bytes)
  const [status = 400, ...more] = statusesIn(answer)
  expect(more).toEqual([])
  expect(status).toBeGreaterThanOrEqual(400)
  expect(status).toBeLessThan(500)
  if (answer !== '')
    expect(errorsIn(answer)).toMatchObject({ errors: [{ code: expect.stringMatching(/^[A-Z_]+$/) }] })
  // A body that ended badly is cleaned up after its answer.
  await until(async () => isDeepStrictEqual(await keysOf(at.driver), before))
  expect((await at.send('GET /v2/a/manifests/v1')).status).toBe(200)
}

describe('the length of a body', () => {
  const bodies: [string, string, string][] = [
    ['said twice, differently', 'Content-Length: 7\r\nContent-Length: 8\r\n', content],
    ['said twice in one line', 'Content-Length: 7, 7\r\n', content],
    ['negative', 'Content-Length: -7\r\n', content],
    ['signed', 'Content-Length: +7\r\n', content],
    ['in hexadecimal', 'Content-Length: 0x7\r\n', content],
    ['empty', 'Content-Length: \r\n', content],
    ['a word', 'Content-Length: seven\r\n', content],
    ['beyond 64 bits', 'Content-Length: 18446744073709551616\r\n', content],
    ['beside chunks', 'Content-Length: 7\r\nTransfer-Encoding: chunked\r\n', '7\r\ncontent\r\n0\r\n\r\n'],
    [
      'beside chunks, the other way round',
      'Transfer-Encoding: chunked\r\nContent-Length: 7\r\n',
      '7\r\ncontent\r\n0\r\n\r\n',
    ],
    ['in an unknown coding', 'Transfer-Encoding: gzip\r\n', content],
    [
      'with chunks inside of another coding',
      'Transfer-Encoding: chunked, gzip\r\n',
      '7\r\ncontent\r\n0\r\n\r\n',
    ],
    ['with a space before the colon', 'Content-Length : 7\r\n', content],
    ['in a chunk whose size is none', 'Transfer-Encoding: chunked\r\n', 'seven\r\ncontent\r\n0\r\n\r\n'],
    ['in a chunk of negative size', 'Transfer-Encoding: chunked\r\n', '-7\r\ncontent\r\n0\r\n\r\n'],
    [
      'in a chunk beyond 64 bits',
      'Transfer-Encoding: chunked\r\n',
      '10000000000000007\r\ncontent\r\n0\r\n\r\n',
    ],
    ['in a chunk that is longer than it says', 'Transfer-Encoding: chunked\r\n', '6\r\ncontent\r\n0\r\n\r\n'],
  ]

  test.each(bodies)('%s, of a blob', async (_name, headers, body) => {
    await expectRefusal(`POST /v2/b/blobs/uploads/?digest=${digest} HTTP/1.1\r\n${host}${headers}\r\n${body}`)
  })

  test.each(bodies)('%s, of a manifest', async (_name, headers, body) => {
    await expectRefusal(`PUT /v2/a/manifests/v2 HTTP/1.1\r\n${host}${headers}\r\n${body}`)
  })

  test.each(bodies)(
    '%s, of a chunk: nothing of it counts that was not well-formed',
    async (_name, headers, body) => {
      const location = await startUpload(at, 'a')
      const answer = await sayRaw(at.port, `PATCH ${location} HTTP/1.1\r\n${host}${headers}\r\n${body}`)
      for (const status of statusesIn(answer)) expect(status).toBe(400)
      const { headers: state } = await at.send(`GET ${location}`)
      expect(['0-0', `0-${content.length - 1}`, `0-${content.length - 2}`]).toContain(state.range)
      expect((await at.send(`DELETE ${location}`)).status).toBe(204)
    },
  )

  test.each(['9007199254740993', '18446744073709551615', String(6 * 2 ** 40)])(
    'beyond what any storage takes is refused before a byte is read: %s',
    async (length) => {
      const location = await startUpload(at, 'a')
      for (const target of [
        `POST /v2/b/blobs/uploads/?digest=${digest}`,
        `PUT /v2/a/manifests/v2`,
        `PATCH ${location}`,
        `PUT ${location}?digest=${digest}`,
      ]) {
        using connection = await openRaw(at.port)
        connection.write(`${target} HTTP/1.1\r\nHost: a\r\nContent-Length: ${length}\r\n\r\n`)
        expect(await connection.expect(/\r\n\r\n.*\}$/s)).toMatch(/^HTTP\/1.1 413 [^]*SIZE_INVALID/)
      }
      expect((await at.send(`DELETE ${location}`)).status).toBe(204)
    },
  )

  test('shorter than the body: what is over is another request, and no good one', async () => {
    const head = `POST /v2/b/blobs/uploads/?digest=${digest} HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n`
    const statuses = statusesIn(await sayRaw(at.port, `${head}${content}and more\r\n\r\n`))
    expect(statuses.at(-1) ?? 400).toBe(400)
    for (const status of statuses.slice(0, -1)) expect(status).toBe(201)
    await until(async () => (await keysOf(at.driver, uploadsFolder)).length === 0)
    const blob = await at.send(`GET /v2/b/blobs/${digest}`)
    if (blob.status !== 404) expect(blob.body.toString()).toBe(content)
    await at.send(`DELETE /v2/b/blobs/${digest}`)
  })
})

describe('a head', () => {
  const get = `GET /v2/a/manifests/v1 HTTP/1.1\r\n${host}`
  test.each([
    ['NUL in a value', `${get}Accept: a\0b\r\n\r\n`],
    ['CR in a value', `${get}Accept: a\rX: b\r\n\r\n`],
    ['a control character in a value', `${get}Accept: a\x1b[31mb\r\n\r\n`],
    ['NUL in the path', 'GET /v2/a\0/manifests/v1 HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['CR in the path', 'GET /v2/a\r/manifests/v1 HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['LF in the path', 'GET /v2/a\n/manifests/v1 HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['an escape in the path', 'GET /v2/\x1b[31m/manifests/v1 HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a space in the path', 'GET /v2/a b/manifests/v1 HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['a header that is folded', `${get}Accept: a\r\n b\r\n\r\n`],
    ['a header without name', `${get}: a\r\n\r\n`],
    ['a header without colon', `${get}Accept\r\n\r\n`],
    ['a name with a space', `${get}A b: c\r\n\r\n`],
    ['no Host', 'GET /v2/a/manifests/v1 HTTP/1.1\r\n\r\n'],
    ['another protocol', 'GET /v2/ SIP/2.0\r\nHost: a\r\n\r\n'],
    ['another version', 'GET /v2/ HTTP/9.9\r\nHost: a\r\n\r\n'],
    ['HTTP/2 from the start', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['a handshake of TLS', Buffer.from('160301020001000', 'hex')],
    ['a proxy header', 'PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['nonsense', '\r\n\r\n\0\0\0\0'],
    ['a URL that is too long', `GET /v2/${'a'.repeat(40_000)}/tags/list HTTP/1.1\r\nHost: a\r\n\r\n`],
    ['a query that is too long', `GET /v2/a/tags/list?n=${'1'.repeat(40_000)} HTTP/1.1\r\nHost: a\r\n\r\n`],
    ['a header that is too long', `${get}Accept: ${'a'.repeat(40_000)}\r\n\r\n`],
    ['too many headers', `${get}${'A: b\r\n'.repeat(10_000)}\r\n`],
    ['more headers than Node keeps', `${get}${'a:\r\n'.repeat(2_100)}\r\n`],
    ['a tunnel', 'CONNECT registry.example:443 HTTP/1.1\r\nHost: a\r\n\r\n'],
  ])('with %s is refused', async (_name, bytes) => {
    await expectRefusal(bytes)
  })

  test.each([
    'http://[/v2/',
    'http://a:99999999/v2/',
    'http://a:b@[::1/v2/a/tags/list',
    'http://%/v2/',
    '*',
    '/\\\\evil/v2/',
    '//evil/v2/',
    '/v2/?%',
    '/v2/a/tags/list?n=%',
    '/v2/#',
    '/v2/a/manifests/\xff\xfe',
    '/v2/\x9b31m/tags/list',
    'http://registry.example/v2/a/manifests/unknown',
  ])('for the target %j gets an answer that is no failure of ours', async (target) => {
    for (const method of ['GET', 'HEAD', 'OPTIONS', 'PUT']) {
      const [status = 400, ...more] = statusesIn(
        await sayRaw(at.port, `${method} ${target} HTTP/1.1\r\n${host}\r\n`),
      )
      expect(more).toEqual([])
      expect(status).toBeLessThan(500)
    }
  })

  test('in the absolute form is the same request', async () => {
    const answer = await sayRaw(
      at.port,
      `GET http://elsewhere.example/v2/a/blobs/${digest} HTTP/1.1\r\n${host}\r\n`,
    )
    expect(answer).toMatch(/^HTTP\/1.1 200 [^]*content$/)
  })

  test('that wants another protocol gets this one', async () => {
    for (const upgrade of ['h2c', 'websocket']) {
      const answer = await sayRaw(
        at.port,
        `GET /v2/a/blobs/${digest} HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade\r\nUpgrade: ${upgrade}\r\n\r\n`,
      )
      expect(answer).toMatch(/^HTTP\/1.1 200 [^]*content$/)
    }
  })

  test('with an expectation that nobody knows is answered as if it had none', async () => {
    const bytes = `GET /v2/a/blobs/${digest} HTTP/1.1\r\n${host}Expect: miracles\r\n\r\n`
    expect(await sayRaw(at.port, bytes)).toMatch(/^HTTP\/1.1 200 [^]*content$/)
  })
})

describe('a path out of the storage', () => {
  test.each([
    '/v2/../../etc/passwd',
    '/../v2/',
    '/v2/a/../a/manifests/../../x',
    '/v2/../manifests/v1',
    '/v2/%2e%2e/manifests/v1',
    '/v2/..%2f..%2f..%2fetc/manifests/passwd',
    '/v2/a%2f..%2f..%2fb/manifests/v1',
    '/v2/a/manifests/..%2f..%2f_uploads',
    '/v2/a/manifests/%2e%2e',
    '/v2/a/blobs/..%2f..%2f..%2fdata',
    '/v2/a/blobs/sha256:..%2f..%2f..%2fetc%2fpasswd',
    '/v2/a/blobs/uploads/..%2f..%2fgc%2fclaim',
    '/v2/a/blobs/uploads/%2e%2e',
    '/v2/a/referrers/..%2f..%2fcomplete',
    '/v2/a%00/manifests/v1',
    '/v2/a%5c..%5cb/manifests/v1',
    '/v2/a\\..\\b/manifests/v1',
    '/v2/%252e%252e%252fa/manifests/v1',
    '/v2/%c0%ae%c0%ae/manifests/v1',
    '/v2/a/_layers/manifests/v1',
    '/v2/_uploads/manifests/v1',
    '/v2/a/manifests/v1%00.json',
  ])('leads nowhere: %s', async (path) => {
    for (const method of ['GET', 'PUT', 'POST', 'PATCH', 'DELETE']) {
      await expectRefusal(`${method} ${path} HTTP/1.1\r\n${host}Content-Length: 2\r\n\r\n{}`)
    }
  })
})

describe('an answer', () => {
  test.each([
    `/v2/a/manifests/v1%0d%0aX-Injected:%20yes`,
    '/v2/a%0d%0aX-Injected:%20yes/tags/list',
    '/v2/a/tags/list?n=1%0d%0aX-Injected:%20yes',
    '/v2/a/tags/list?n=1&last=v0%0d%0aX-Injected:%20yes',
    '/v2/_catalog?n=1&last=%0d%0aX-Injected:%20yes',
    `/v2/a/referrers/${digest}?artifactType=%0d%0aX-Injected:%20yes`,
    `/v2/a/blobs/${digest}?ns=%0d%0aX-Injected:%20yes`,
  ])('has no header that the request made up: %s', async (path) => {
    const answer = await at.send(`GET ${path}`)
    expect(answer.status).toBeLessThan(500)
    expect(answer.headers).not.toHaveProperty('x-injected')
  })
})

describe('requests one after the other', () => {
  test('without waiting are answered in their order, each once', async () => {
    const line = (target: string, rest = '') => `${target} HTTP/1.1\r\nHost: a\r\n${rest}\r\n`
    const answer = await sayRaw(
      at.port,
      [
        line('GET /v2/'),
        line(`POST /v2/c/blobs/uploads/?digest=${digest}`, 'Content-Length: 7\r\n'),
        content,
        line(`HEAD /v2/a/blobs/${digest}`),
        line('PUT /v2/A/manifests/v1', 'Content-Length: 2\r\n'),
        '{}',
        line('GET /v2/a/manifests/v1'),
        line(`GET /v2/b/blobs/${digest}`, 'Connection: close\r\n'),
      ].join(''),
    )
    expect(statusesIn(answer)).toEqual([200, 201, 200, 400, 200, 404])
  })

  test('a body that was not read does not become the next request', async () => {
    const smuggled = `DELETE /v2/a/manifests/v1 HTTP/1.1\r\nHost: a\r\n\r\n`
    const answer = await sayRaw(
      at.port,
      `PUT /v2/A/manifests/v1 HTTP/1.1\r\nHost: a\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}` +
        `GET /v2/a/tags/list HTTP/1.1\r\n${host}\r\n`,
    )
    expect(statusesIn(answer)).toEqual([400, 200])
    expect(answer).toMatch(/"tags":\["v1"\]/)
  })
})

describe('HTTP/1.0', () => {
  test('is answered, without Host, and the connection ends', async () => {
    expect(await sayRaw(at.port, `GET /v2/a/blobs/${digest} HTTP/1.0\r\n\r\n`)).toMatch(
      /^HTTP\/1.1 200 [^]*content$/,
    )
    expect(await sayRaw(at.port, 'GET /v2/nowhere HTTP/1.0\r\n\r\n')).toMatch(
      /^HTTP\/1.1 404 [^]*UNSUPPORTED/,
    )
    const push = `POST /v2/b/blobs/uploads/?digest=${digest} HTTP/1.0\r\nContent-Length: 7\r\n\r\n${content}`
    expect(await sayRaw(at.port, push)).toMatch(/^HTTP\/1.1 201 /)
    expect((await at.send(`DELETE /v2/b/blobs/${digest}`)).status).toBe(202)
  })
})

describe('Expect: 100-continue', () => {
  const expectation = 'Expect: 100-continue\r\n'

  test('a push that can be refused by its head is, without the body', async () => {
    for (const [target, status] of [
      ['PUT /v2/A/manifests/v1', 400],
      ['POST /v2/a/blobs/uploads/?digest=sha256:x', 400],
      [`PATCH /v2/a/blobs/uploads/00000000-0000-4000-8000-000000000000`, 404],
      [`PUT /v2/a/tags/list`, 405],
    ] as const) {
      const answer = await sayRaw(
        at.port,
        `${target} HTTP/1.1\r\nHost: a\r\n${expectation}Content-Length: 1000000\r\n\r\n`,
      )
      expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
    }
    const large = `PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: a\r\n${expectation}Content-Length: 4194305\r\n\r\n`
    expect(await sayRaw(at.port, large)).toMatch(/^HTTP\/1.1 413 /)
  })

  test('a push that goes on is asked for its body', async () => {
    using connection = await openRaw(at.port)
    connection.write(
      `POST /v2/b/blobs/uploads/?digest=${digest} HTTP/1.1\r\nHost: a\r\n${expectation}Content-Length: 7\r\n\r\n`,
    )
    await connection.expect(/^HTTP\/1.1 100 Continue\r\n\r\n$/)
    connection.write(content)
    await connection.expect(/HTTP\/1.1 201 Created\r\n/)
    expect((await at.send(`DELETE /v2/b/blobs/${digest}`)).status).toBe(202)
  })
})
