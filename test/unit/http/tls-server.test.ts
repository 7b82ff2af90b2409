/** What is particular to TLS; all that holds over TCP and TLS alike is in server.test.ts. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as tls from 'node:tls'
import { systemClock } from '../../../src/clock.ts'
import { openCertificates, type CertificateStore } from '../../../src/http/certificate-store.ts'
import type { Refusal } from '../../../src/http/raw-refusal.ts'
import { listen, type HttpServer } from '../../../src/http/server.ts'
import { createLog } from '../../../src/telemetry/log.ts'
import { createAuthority, writeCertificate } from '../../support/certificates.ts'
import { openRaw, receiveAll, sayRaw } from '../../support/raw-connection.ts'
import { until } from '../../support/registry.ts'

const authority = await createAuthority()
const ca = authority.certificate
const get = 'GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'

let folder = ''
let server: HttpServer
let certificates: CertificateStore
let calls = 0
let refused: Refusal[] = []

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stowage-tls-'))
  const files = await writeCertificate(folder, 'tls', await authority.issue(['internal', '127.0.0.1']))
  const external = await (await authority.issueAuthority()).issue(['*.example.org'], { kind: 'rsa' })
  const sni = await writeCertificate(folder, 'sni', external)
  const log = createLog({ level: 'error' })
  certificates = await openCertificates({ files, sni, clock: systemClock, log, pollMs: 10 })
  calls = 0
  refused = []
  const onRefused = (refusal: Refusal) => void refused.push(refusal)
  const options = { host: '127.0.0.1', port: 0, clock: systemClock, certificates, headersMs: 500, onRefused }
  server = await listen((_, response) => {
    calls++
    response.end('ok')
  }, options)
})
afterEach(async () => {
  await server.drain(0)
  await certificates.close()
  await rm(folder, { recursive: true })
})

async function handshake(options: tls.ConnectionOptions = {}): Promise<tls.TLSSocket> {
  const socket = tls.connect({ port: server.port, host: '127.0.0.1', ca, ...options })
  await once(socket, 'secureConnect')
  return socket
}

async function namesFor(servername?: string): Promise<string | undefined> {
  const socket = await handshake(servername === undefined ? {} : { servername })
  const names = socket.getPeerCertificate().subjectaltname
  socket.destroy()
  return names
}

describe('which certificate', () => {
  test('the internal one for an address, which sends no name, and for names of nobody', async () => {
    expect(await namesFor()).toContain('DNS:internal')
    expect(await namesFor('internal')).toContain('DNS:internal')
    await expect(namesFor('elsewhere.example.net')).rejects.toThrow("does not match certificate's altnames")
  })

  test('the external one for its names, with what leads to its authority', async () => {
    expect(await namesFor('registry.example.org')).toBe('DNS:*.example.org')
  })

  test('a new one for new connections, while those that stand go on', async () => {
    const old = await handshake()
    await writeCertificate(folder, 'tls', await authority.issue(['renewed', '127.0.0.1']))
    await until(async () => (await namesFor())?.includes('DNS:renewed') === true)
    expect(old.getPeerCertificate().subjectaltname).toContain('DNS:internal')
    old.write(get)
    expect(await receiveAll(old)).toMatch(/^HTTP\/1.1 200 [^]*ok$/)
    expect(await namesFor('registry.example.org')).toBe('DNS:*.example.org')
  })
})

describe('the protocol', () => {
  test.each(['TLSv1.2', 'TLSv1.3'] as const)('is %s, with forward secrecy', async (version) => {
    for (const servername of ['internal', 'registry.example.org']) {
      const socket = await handshake({ minVersion: version, maxVersion: version, servername })
      expect(socket.getProtocol()).toBe(version)
      expect(socket.getCipher().standardName).toMatch(/^TLS_(ECDHE_(ECDSA|RSA)_WITH_)?AES_128_GCM_SHA256$/)
      socket.destroy()
    }
  })

  test.each<[string, tls.ConnectionOptions]>([
    ['TLS 1.1', { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }],
    ['a cipher without forward secrecy', { maxVersion: 'TLSv1.2', ciphers: 'AES128-GCM-SHA256' }],
  ])('is not %s', async (_, options) => {
    for (const servername of ['internal', 'registry.example.org']) {
      await expect(handshake({ ...options, servername })).rejects.toThrow(/alert/)
    }
  })

  test('is HTTP/1.1, also for clients that would like HTTP/2', async () => {
    const socket = await handshake({ ALPNProtocols: ['h2', 'http/1.1'] })
    expect(socket.alpnProtocol).toBe('http/1.1')
    socket.destroy()
  })

  test('resumes sessions', async () => {
    const first = await handshake()
    const session = once(first, 'session')
    first.write(get)
    await receiveAll(first)
    const second = await handshake({ session: ((await session) as [Buffer])[0] })
    expect(second.isSessionReused()).toBe(true)
    second.destroy()
  })
})

describe('what is no TLS', () => {
  test('plain HTTP is answered so, in JSON, and never reaches the application', async () => {
    const answer = await sayRaw(server.port, 'GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n')
    expect(answer).toMatch(
      /^HTTP\/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application\/json\r/,
    )
    expect(JSON.parse(answer.slice(answer.indexOf('\r\n\r\n')))).toEqual({
      errors: [
        {
          code: 'UNSUPPORTED',
          message: 'this port speaks HTTPS, and the request came in plain HTTP',
        },
      ],
    })
    expect(calls).toBe(0)
    expect(refused).toEqual([{ status: 400, reason: 'plain-http', remote: '127.0.0.1' }])
  })

  test('an upload in plain HTTP reads its answer, too', async () => {
    using connection = await openRaw(server.port)
    connection.write('PUT /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n')
    connection.write(Buffer.alloc(4_000_000))
    expect(await connection.ended).toMatch(/^HTTP\/1.1 400 /)
  })

  test('nonsense is not answered', async () => {
    expect(await sayRaw(server.port, '\x00\x01\x02\x03')).toBe('')
    expect(await sayRaw(server.port, '\x16\x03\x01\x00\x05hello')).not.toContain('HTTP')
    expect(refused).toEqual([])
  })

  test('a connection on which nothing comes, or only half a handshake, ends in time', async () => {
    const half = (await clientHello()).subarray(0, 50)
    expect(await sayRaw(server.port, '')).toBe('')
    expect(await sayRaw(server.port, half)).toBe('')
  })
})

test('a handshake that goes no further does not hold up the end for longer than its time', async () => {
  using silent = await openRaw(server.port)
  using stuck = await openRaw(server.port)
  stuck.write(await clientHello())
  await stuck.expect(/^\x16/)
  const began = performance.now()
  expect(await server.drain(200)).toBe(0)
  expect(performance.now() - began).toBeLessThan(450)
  await Promise.all([silent.ended, stuck.ended])
})

/** The first bytes that a TLS client sends. */
async function clientHello(): Promise<Buffer> {
  const catcher = createServer().listen(0, '127.0.0.1')
  await once(catcher, 'listening')
  const address = catcher.address() as AddressInfo
  const client = tls.connect(address.port, '127.0.0.1').on('error', () => undefined)
  const [socket] = (await once(catcher, 'connection')) as [Socket]
  const [bytes] = (await once(
    socket.on('error', () => undefined),
    'data',
  )) as [Buffer]
  client.destroy()
  socket.destroy()
  catcher.close()
  return bytes
}
