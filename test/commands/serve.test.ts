/** `stowage serve` as a process: how it begins, and how it ends. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { request, type ClientRequest, type IncomingMessage } from 'node:http'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { basicOf, htpasswdOf } from '../support/htpasswd.ts'
import { run, type Running } from '../support/processes.ts'
import { until } from '../support/registry.ts'
import { startStowage, type Stowage } from '../support/stowage.ts'

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const clean = Object.fromEntries(
  Object.keys(process.env).flatMap((name) => (/^(STOWAGE|AWS)_/.test(name) ? [[name, undefined]] : [])),
)

const keys = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b' }

let folder: string
const running: Running[] = []

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stowage-serve-'))
})
afterEach(async () => {
  for (const server of running.splice(0)) await server.stop(0)
  await rm(folder, { recursive: true })
})

async function serve(args: readonly string[], env?: Readonly<Record<string, string>>): Promise<Stowage> {
  const server = await startStowage(args, env)
  running.push(server)
  return server
}

/** Of a server that does not come up: its code, and what it wrote. */
async function fail(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const { code, stdout, stderr } = await run(process.execPath, [main, 'serve', ...args], {
    env: { ...clean, ...env },
    cwd: folder,
    timeoutMs: 25_000,
  })
  expect(stdout.toString()).toBe('')
  return { code, stderr }
}

/** An upload whose first half is on its way; the server has read it when this returns. */
async function startUpload(registry: string): Promise<ClientRequest> {
  const session = await fetch(`http://${registry}/v2/test/blobs/uploads/`, { method: 'POST' })
  expect(session.status).toBe(202)
  const url = new URL(session.headers.get('location') ?? '', `http://${registry}`)
  const outgoing = request(url, { method: 'PATCH', headers: { 'content-length': 12 } })
  outgoing.write('first ')
  await delay(300)
  return outgoing
}

describe('the beginning', () => {
  test('it says where it listens, on what, and how images come in and out', async () => {
    const { registry, output } = await serve(['--storage', 'memory'])
    const port = registry.split(':')[1]
    expect(port).not.toBe('0')
    const lines = output().split('\n')
    expect(lines[0]).toMatch(
      new RegExp(`^stowage \\S+ listening on http://127.0.0.1:${port}, storage memory$`),
    )
    expect(lines).toContain(
      `  docker tag alpine localhost:${port}/alpine && docker push localhost:${port}/alpine`,
    )
    expect(lines).toContain(`  podman push --tls-verify=false alpine localhost:${port}/alpine`)
    expect(lines).toContain(`  crane copy --insecure alpine localhost:${port}/alpine`)
    expect((await fetch(`http://${registry}/v2/`)).status).toBe(200)
  })

  test('settings come from a file and from variables too, and the root is made', async () => {
    const config = join(folder, 'stowage.yaml')
    const root = join(folder, 'new', 'root')
    await writeFile(config, `root: ${root}\nlogLevel: info\n`)
    const { output } = await serve(['--config', config], { STOWAGE_LOG_LEVEL: 'warn' })
    expect(output()).toContain(`storage filesystem ${root}\n`)
    expect(await readdir(root)).not.toEqual([])
  })
})

describe('users', () => {
  test('of an htpasswd file log in, and none but them; the password is nowhere in what it writes', async () => {
    const users = join(folder, 'users')
    await writeFile(users, htpasswdOf({ alice: 'open sesame' }))
    const { registry, output } = await serve(['--storage=memory', `--htpasswd=${users}`])
    const statusOf = async (headers: Record<string, string>) =>
      (await fetch(`http://${registry}/v2/`, { headers })).status
    expect(await statusOf({})).toBe(401)
    expect(await statusOf(basicOf('alice', 'wrong sesame'))).toBe(401)
    expect(await statusOf(basicOf('alice', 'open sesame'))).toBe(200)
    await writeFile(users, htpasswdOf({ bob: 'open sesame' }))
    await until(async () => (await statusOf(basicOf('alice', 'open sesame'))) === 401)
    expect(await statusOf(basicOf('bob', 'open sesame'))).toBe(200)
    expect(output()).toContain(`docker login localhost:${registry.split(':')[1]}`)
    expect(output()).not.toContain('sesame')
  })
})

describe('what keeps it from starting is one sentence, and code 1', () => {
  test('a port that is taken', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as AddressInfo
    try {
      expect(await fail(['--storage', 'memory', '--listen', `127.0.0.1:${port}`])).toEqual({
        code: 1,
        stderr: `stowage serve: cannot listen on 127.0.0.1:${port}: another process listens there; end it, or choose another port by --listen\n`,
      })
    } finally {
      other.close()
    }
  })

  test('an address that is not of this machine', async () => {
    const { code, stderr } = await fail(['--storage=memory', '--anonymous=full', '--listen=192.0.2.1:0'])
    expect([code, stderr]).toEqual([
      1,
      'stowage serve: cannot listen on 192.0.2.1:0: this machine has no such address\n',
    ])
  })

  test('a root that cannot be one', async () => {
    await writeFile(join(folder, 'file'), '')
    const { code, stderr } = await fail(['--root', 'file/root'])
    expect(code).toBe(1)
    expect(stderr).toMatch(
      /^stowage serve: the storage filesystem file\/root cannot be used: a part of the path is not a directory \(ENOTDIR: .*\)\n$/,
    )
  })

  test('S3 without a region', async () => {
    const { code, stderr } = await fail(['--storage', 's3', '--s3-bucket', 'images'], keys)
    expect(code).toBe(1)
    expect(stderr).toMatch(
      / cannot be used: no region is known: give --s3-region, or set AWS_REGION \(.*\)\n$/,
    )
  })

  test('certificates that are not there, or are none', async () => {
    const where = ['--storage=s3', '--s3-bucket=images', '--s3-endpoint=https://127.0.0.1:1']
    const missing = await fail([...where, '--s3-ca-file=none.pem'], keys)
    expect(missing.code).toBe(1)
    expect(missing.stderr).toMatch(/^stowage serve: --s3-ca-file none.pem cannot be read: ENOENT.*\n$/)
    await writeFile(join(folder, 'text.pem'), 'hello')
    expect(await fail([...where, '--s3-ca-file=text.pem'], keys)).toEqual({
      code: 1,
      stderr: 'stowage serve: --s3-ca-file text.pem holds no certificate in PEM\n',
    })
  })

  test('an S3 endpoint where nobody listens', async () => {
    const where = ['--storage=s3', '--s3-bucket=images', '--s3-endpoint=http://127.0.0.1:1']
    const { code, stderr } = await fail(where, keys)
    expect(code).toBe(1)
    expect(stderr.trimEnd().split('\n').at(-1)).toMatch(
      /^stowage serve: the storage s3 images at http:\/\/127.0.0.1:1 cannot be used: .*ECONNREFUSED/,
    )
    expect(stderr).not.toMatch(/\n {4}at /)
  })
})

describe('the end', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)('%s ends an idle server with code 0', async (signal) => {
    const server = await serve(['--storage', 'memory'])
    await fetch(`http://${server.registry}/v2/`)
    server.kill(signal)
    expect(await server.exited).toEqual({ code: 0, signal: null })
  })

  test('an upload that is under way ends, while no new connection is taken', async () => {
    const server = await serve(['--root', join(folder, 'data')])
    const upload = await startUpload(server.registry)
    server.kill('SIGTERM')
    await delay(300)
    await expect(fetch(`http://${server.registry}/v2/`)).rejects.toThrow('fetch failed')
    upload.end('second')
    const [answer] = (await once(upload, 'response')) as [IncomingMessage]
    expect(answer.statusCode).toBe(202)
    expect(answer.headers.range).toBe('0-11')
    expect(answer.headers.connection).toBe('close')
    await text(answer)
    expect(await server.exited).toEqual({ code: 0, signal: null })
  })

  test('a second signal ends it at once', async () => {
    const server = await serve(['--storage', 'memory'])
    const upload = await startUpload(server.registry)
    const cut = expect(once(upload, 'response')).rejects.toThrow(/hang up|ECONNRESET/)
    server.kill('SIGTERM')
    await delay(200)
    server.kill('SIGTERM')
    expect(await server.exited).toEqual({ code: 143, signal: null })
    await cut
  })
})
