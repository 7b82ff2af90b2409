/** `stowage serve` as a process: what it tells of itself, and how it leaves. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { request, type ClientRequest, type IncomingMessage } from 'node:http'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { run, type Running } from '../support/processes.ts'
import { until } from '../support/registry.ts'
import { startStowage, type Stowage, withoutSettings } from '../support/stowage.ts'

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

let folder: string
const running: Running[] = []

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stowage-admin-'))
})
afterEach(async () => {
  for (const server of running.splice(0)) await server.stop(0)
  await rm(folder, { recursive: true })
})

interface Line {
  readonly msg: string
  readonly port?: number
  readonly [field: string]: unknown
}

async function serve(...args: string[]): Promise<Stowage & { lines(): Line[] }> {
  const server = await startStowage(args)
  running.push(server)
  const lines = () =>
    server
      .output()
      .split('\n')
      .slice(0, -1)
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Line)
  return { ...server, lines }
}

/** One with an admin port, once it is ready; the URL of that port. */
async function serveWithAdmin(...args: string[]) {
  const server = await serve('--admin-listen', '127.0.0.1:0', ...args)
  await until(() => server.lines().some(({ msg }) => msg === 'the admin port is open'))
  const { port } = server.lines().find(({ msg }) => msg === 'the admin port is open') ?? {}
  const adminUrl = `http://127.0.0.1:${port}`
  await until(async () => (await fetch(`${adminUrl}/readyz`)).status === 200)
  return { ...server, adminUrl }
}

/** An upload whose first half the server has read. */
async function startUpload({
  registry,
  adminUrl,
}: {
  registry: string
  adminUrl: string
}): Promise<ClientRequest> {
  const session = await fetch(`http://${registry}/v2/test/blobs/uploads/`, { method: 'POST' })
  expect(session.status).toBe(202)
  const url = new URL(session.headers.get('location') ?? '', `http://${registry}`)
  const outgoing = request(url, { method: 'PATCH', headers: { 'content-length': 12 } })
  outgoing.on('error', () => undefined)
  outgoing.write('first ')
  await until(async () => {
    const metrics = await (await fetch(`${adminUrl}/metrics`)).text()
    return metrics.includes('stowage_uploads_in_flight 1')
  })
  return outgoing
}

async function isRefused(registry: string): Promise<boolean> {
  return fetch(`http://${registry}/v2/`).then(
    () => false,
    () => true,
  )
}

describe('SIGTERM', () => {
  test('ends readiness first, then takes no more connections, and lets a transfer end', async () => {
    const server = await serveWithAdmin('--root', join(folder, 'data'), '--drain-delay', '2s')
    const upload = await startUpload(server)
    server.kill('SIGTERM')
    await until(async () => (await fetch(`${server.adminUrl}/readyz`)).status === 503)
    expect((await fetch(`http://${server.registry}/v2/`)).status).toBe(200)
    await until(() => isRefused(server.registry))
    const [ready, alive] = await Promise.all(
      ['readyz', 'healthz'].map((path) => fetch(`${server.adminUrl}/${path}`)),
    )
    expect(await ready?.json()).toMatchObject({
      status: 'not ready',
      reason: 'stopping: running requests may end',
    })
    expect(alive?.status).toBe(200)
    upload.end('second')
    const [answer] = (await once(upload, 'response')) as [IncomingMessage]
    expect([answer.statusCode, answer.headers.range]).toEqual([202, '0-11'])
    answer.resume()
    expect(await server.exited).toEqual({ code: 0, signal: null })
    expect(await isRefused(new URL(server.adminUrl).host)).toBe(true)
  })

  test('ends also where a transfer does not, with code 0 and a warning', async () => {
    const server = await serveWithAdmin('--storage', 'memory', '--drain-timeout', '100ms')
    const upload = await startUpload(server)
    const cut = expect(once(upload, 'response')).rejects.toThrow(/hang up|ECONNRESET/)
    server.kill('SIGTERM')
    expect(await server.exited).toEqual({ code: 0, signal: null })
    await cut
    expect(server.lines()).toContainEqual(
      expect.objectContaining({
        level: 'warn',
        msg: 'stopped before all requests had ended',
        requests: 1,
      }),
    )
  })
})

test('an admin port that is taken keeps it from starting, in a sentence that names the setting', async () => {
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  const { port } = other.address() as AddressInfo
  try {
    const where = ['--listen', '127.0.0.1:0', '--admin-listen', `127.0.0.1:${port}`]
    const { code, stderr } = await run(process.execPath, [main, 'serve', '--storage', 'memory', ...where], {
      env: withoutSettings,
    })
    expect([code, stderr]).toEqual([
      1,
      `stowage serve: cannot listen on 127.0.0.1:${port}: another process listens there; end it, or choose another port by --admin-listen\n`,
    ])
  } finally {
    other.close()
  }
})

describe('a line for each request', () => {
  test('is in the log', async () => {
    const server = await serve('--storage', 'memory')
    await fetch(`http://${server.registry}/v2/`)
    await until(() => server.lines().some(({ msg }) => msg === 'request'))
    expect(server.lines().filter(({ msg }) => msg === 'request')).toMatchObject([
      { method: 'GET', path: '/v2/', status: 200 },
    ])
  })

  test.each([
    ['--access-log', 'false'],
    ['--log-level', 'warn'],
  ])('is not, with %s %s', async (...setting) => {
    const server = await serve('--storage', 'memory', ...setting)
    await fetch(`http://${server.registry}/v2/`)
    server.kill('SIGTERM')
    await server.exited
    expect(server.lines().filter(({ msg }) => msg === 'request')).toEqual([])
  })
})

test('--read-only serves a directory without a change to it', async () => {
  const server = await serve('--root', folder, '--read-only')
  const push = await fetch(`http://${server.registry}/v2/a/blobs/uploads/`, { method: 'POST' })
  expect([push.status, push.headers.get('x-request-id')]).toEqual([405, expect.any(String)])
  expect((await fetch(`http://${server.registry}/v2/_catalog`)).status).toBe(200)
  server.kill('SIGTERM')
  expect(await server.exited).toEqual({ code: 0, signal: null })
  expect(await readdir(folder)).toEqual([])
})
