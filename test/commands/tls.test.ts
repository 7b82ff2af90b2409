/** `stowage serve` over TLS, as a process. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:https'
import type { IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { connect, type ConnectionOptions } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { createAuthority, writeCertificate } from '../support/certificates.ts'
import { run } from '../support/processes.ts'
import { until } from '../support/registry.ts'
import { startStowage, type Stowage, withoutSettings } from '../support/stowage.ts'

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const authority = await createAuthority()

let folder = ''
let server: Stowage | undefined

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stowage-serve-tls-'))
})
afterEach(async () => {
  await server?.stop(0)
  server = undefined
  await rm(folder, { recursive: true })
})

async function serve(...args: string[]): Promise<Stowage> {
  server = await startStowage(['--storage=memory', ...args])
  return server
}

async function fail(...args: string[]) {
  const all = [main, 'serve', '--storage=memory', '--listen=127.0.0.1:0', ...args]
  const { code, stderr } = await run(process.execPath, all, {
    env: withoutSettings,
    cwd: folder,
    timeoutMs: 25_000,
  })
  return { code, stderr }
}

async function namesFor({ registry }: Stowage, options: ConnectionOptions = {}): Promise<string | undefined> {
  const [host, port] = registry.split(':')
  const socket = connect({ port: Number(port), host, ca: authority.certificate, ...options })
  await once(socket, 'secureConnect')
  const names = socket.getPeerCertificate().subjectaltname
  socket.destroy()
  return names
}

test('it says https, serves both certificates, follows their files, and drains', async () => {
  const tls = await writeCertificate(folder, 'tls', await authority.issue(['internal', '127.0.0.1']))
  const sni = await writeCertificate(folder, 'sni', await authority.issue(['registry.example.org']))
  const running = await serve(
    `--tls-cert=${tls.certificate}`,
    `--tls-key=${tls.key}`,
    `--tls-sni-cert=${sni.certificate}`,
    `--tls-sni-key=${sni.key}`,
  )
  const [, port] = running.registry.split(':')
  expect(running.output()).toContain(`listening on https://127.0.0.1:${port}, storage memory\n`)
  expect(running.output()).toContain(`crane copy alpine registry.example.org:${port}/alpine\n`)
  expect(await namesFor(running)).toContain('DNS:internal')
  expect(await namesFor(running, { servername: 'registry.example.org' })).toBe('DNS:registry.example.org')

  await writeCertificate(folder, 'tls', await authority.issue(['renewed', '127.0.0.1']))
  await until(async () => (await namesFor(running))?.includes('DNS:renewed') === true, 10_000)

  const url = `https://${running.registry}/v2/test/blobs/uploads/`
  const [session] = (await once(
    request(url, { method: 'POST', ca: authority.certificate }).end(),
    'response',
  )) as [IncomingMessage]
  session.resume()
  const location = new URL(session.headers.location ?? '', url)
  const upload = request(location, {
    method: 'PATCH',
    headers: { 'content-length': 12, expect: '100-continue' },
    ca: authority.certificate,
  })
  upload.flushHeaders()
  // The server reads it from now on.
  await once(upload, 'continue')
  upload.write('first ')
  running.kill('SIGTERM')
  await until(() => running.output().includes('stopping'))
  upload.end('second')
  const [answer] = (await once(upload, 'response')) as [IncomingMessage]
  expect([answer.statusCode, answer.headers.range]).toEqual([202, '0-11'])
  await text(answer)
  expect(await running.exited).toEqual({ code: 0, signal: null })
})

test('an expired certificate is a warning', async () => {
  const times = { notBefore: new Date(Date.UTC(2020, 0, 1)), notAfter: new Date(Date.UTC(2020, 1, 1)) }
  const old = await authority.issue(['127.0.0.1'], times)
  const tls = await writeCertificate(folder, 'tls', old)
  const running = await serve(`--tls-cert=${tls.certificate}`, `--tls-key=${tls.key}`)
  expect(running.output()).toContain('the certificate has expired: clients refuse it')
  await expect(namesFor(running)).rejects.toThrow('certificate has expired')
})

describe('what keeps it from starting is one sentence', () => {
  test.each([
    [
      'a certificate without its key',
      ['--tls-cert=a.crt'],
      '--tls-cert "a.crt": its key is needed too: --tls-key',
    ],
    [
      'a key without its certificate',
      ['--tls-key=a.key'],
      '--tls-key "a.key": the certificate of that key is needed too: --tls-cert',
    ],
    [
      'a certificate for external names alone',
      ['--tls-sni-cert=a.crt', '--tls-sni-key=a.key'],
      '--tls-sni-cert "a.crt": the certificate for all other clients is needed too: --tls-cert',
    ],
  ])('%s', async (_, args, fault) => {
    expect(await fail(...args)).toEqual({
      code: 2,
      stderr: `stowage serve: settings refused\n  ${fault}\nSee: stowage help serve\n`,
    })
  })

  test('a file that is not there', async () => {
    await writeFile(join(folder, 'a.crt'), '')
    expect(await fail('--tls-cert=a.crt', '--tls-key=a.key')).toEqual({
      code: 1,
      stderr:
        "stowage serve: TLS cannot begin: a.key cannot be read: ENOENT: no such file or directory, open 'a.key'\n",
    })
  })

  test('a pair that does not fit', async () => {
    await writeCertificate(folder, 'a', await authority.issue(['a.example.org']))
    await writeCertificate(folder, 'b', await authority.issue(['a.example.org']))
    expect(await fail('--tls-cert=a.crt', '--tls-key=b.key')).toEqual({
      code: 1,
      stderr:
        'stowage serve: TLS cannot begin: the certificate in a.crt is not the one of the key in b.key\n',
    })
  })
})
