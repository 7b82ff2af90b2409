/** The registry behind a real nginx: pushes, pulls and listings by its address alone, with TLS and passwords. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { Agent, request } from 'node:https'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { json, text } from 'node:stream/consumers'
import { setDefaultCACertificates, getCACertificates } from 'node:tls'
import { clientFolder, clientProgram, type ClientFolder } from '../clients/client-folder.ts'
import { createAuthority, writeCertificate } from '../support/certificates.ts'
import { basicOf, htpasswdOf } from '../support/htpasswd.ts'
import { dockerArchive } from '../support/image-archives.ts'
import { expectBlob, expectManifest, registryClient, type RegistryClient } from '../support/image-transfer.ts'
import { blobOf, buildImage, buildIndex, linuxArm64, seededBytes } from '../support/images.ts'
import { until } from '../support/registry.ts'
import { startStowage, type Stowage } from '../support/stowage.ts'
import { tool } from '../support/tools.ts'
import { startNginx, type Nginx } from './nginx.ts'

const mebibyte = 2 ** 20
const large = blobOf(seededBytes('large', 64 * mebibyte), 'application/octet-stream')
const layer = blobOf(seededBytes('layer', 11 * mebibyte), 'application/octet-stream')
const image = buildImage('behind nginx', { layerSizes: [2048, 7 * mebibyte] })
const index = buildIndex([image, buildImage('arm behind nginx', { platform: linuxArm64 })])

const login = basicOf('alice', 'of wonderland')
const authority = await createAuthority()
const trustedBefore = getCACertificates('default')

let folder = ''
let registry: Stowage

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stowage-proxy-'))
  await writeFile(join(folder, 'ca.crt'), authority.certificate)
  await writeFile(join(folder, 'htpasswd'), htpasswdOf({ alice: 'of wonderland' }))
  setDefaultCACertificates([authority.certificate])
  registry = await startStowage(['--storage=memory', `--htpasswd=${join(folder, 'htpasswd')}`])
  await tool('crane')
}, 120_000)
afterAll(async () => {
  setDefaultCACertificates(trustedBefore)
  await registry.stop()
  await rm(folder, { recursive: true })
})

describe.each<[string, Record<string, string>]>([
  ['as recommended', {}],
  ['with buffered uploads', { 'proxy_request_buffering off;': 'proxy_request_buffering on;' }],
])('%s', (mode, changes) => {
  const of = (name: string) => `${mode.replaceAll(' ', '-')}/${name}`
  let nginx: Nginx
  let client: RegistryClient
  let agent: Agent

  beforeAll(async () => {
    const own = await mkdtemp(join(folder, 'nginx-'))
    const certificate = await writeCertificate(own, 'registry', await authority.issue(['127.0.0.1']))
    nginx = await startNginx({ folder: own, upstream: registry.registry, certificate, changes })
    agent = new Agent({ keepAlive: true, ca: authority.certificate })
    client = registryClient(`https://${nginx.address}`, (url, init) =>
      fetch(url, { ...init, headers: { ...(init?.headers as Record<string, string>), ...login } }),
    )
  })
  afterAll(async () => {
    agent.destroy()
    await nginx.stop()
  })

  test('nobody gets in without a password', async () => {
    const answer = await fetch(`https://${nginx.address}/v2/`)
    expect(answer.status).toBe(401)
    expect(answer.headers.get('WWW-Authenticate')).toMatch(/^Basic /)
    expect(await answer.json()).toMatchObject({ errors: [{ code: 'UNAUTHORIZED' }] })
  })

  test.each([
    ['post', layer],
    ['put', large],
    ['stream', large],
    ['chunks', layer],
  ] as const)('a blob goes up and comes back: %s', async (form, blob) => {
    await client.pushBlob(of(form), blob, form)
    await expectBlob(client, of(form), blob)
  })

  test('a stream of unknown length goes up', async () => {
    const name = of('unknown')
    const session = await client.request(`${name}/blobs/uploads/`, { method: 'POST' })
    const outgoing = request(new URL(session.headers.get('Location') ?? '', session.url), {
      method: 'PATCH',
      headers: login,
      agent,
    })
    for (let at = 0; at < large.bytes.length; at += mebibyte) {
      if (!outgoing.write(large.bytes.subarray(at, at + mebibyte))) await once(outgoing, 'drain')
    }
    outgoing.end()
    const [answer] = (await once(outgoing, 'response')) as [IncomingMessage]
    await text(answer)
    expect([answer.statusCode, answer.headers.range]).toEqual([202, `0-${large.bytes.length - 1}`])
    const location = new URL(answer.headers.location ?? '', session.url)
    location.searchParams.set('digest', large.digest)
    expect((await client.request(location.href, { method: 'PUT' })).status).toBe(201)
    await expectBlob(client, name, large)
  })

  test('an image and an index go up and come back, and every Location is a path', async () => {
    const name = of('image')
    await client.push(name, index, { tags: ['v1'] })
    await expectManifest(client, name, 'v1', index)
    const session = await client.request(`${name}/blobs/uploads/`, { method: 'POST' })
    const put = await client.request(`${name}/manifests/v2`, {
      method: 'PUT',
      body: new Uint8Array(image.bytes),
      headers: { 'Content-Type': image.mediaType },
    })
    for (const [answer, path] of [
      [session, `/v2/${name}/blobs/uploads/`],
      [put, `/v2/${name}/manifests/`],
    ] as const) {
      const location = answer.headers.get('Location') ?? ''
      expect(location.startsWith(path)).toBe(true)
    }
    expect((await client.request(session.headers.get('Location') ?? '', { method: 'DELETE' })).status).toBe(
      204,
    )
  })

  test('a part of a blob, and none where there is none', async () => {
    const name = of('ranges')
    await client.pushBlob(name, layer)
    const range = async (bytes: string) =>
      client.request(`${name}/blobs/${layer.digest}`, { headers: { Range: `bytes=${bytes}` } })
    const middle = await range('1000000-1999999')
    expect([middle.status, middle.headers.get('Content-Range')]).toEqual([
      206,
      `bytes 1000000-1999999/${layer.bytes.length}`,
    ])
    expect(layer.bytes.subarray(1_000_000, 2_000_000).equals(Buffer.from(await middle.arrayBuffer()))).toBe(
      true,
    )
    expect((await range(`${layer.bytes.length}-`)).status).toBe(416)
  })

  test('pages of tags are found by their Links', async () => {
    const name = of('pages')
    await client.push(name, image, { tags: ['a', 'b', 'c', 'd', 'e'] })
    const seen: string[] = []
    let url: string | undefined = `${name}/tags/list?n=2`
    for (let pages = 0; url !== undefined && pages < 5; pages++) {
      const answer: Response = await client.request(url)
      seen.push(...((await answer.json()) as { tags: string[] }).tags)
      const next: string | undefined = /^<(\/v2\/[^>]*)>; rel="next"$/.exec(
        answer.headers.get('Link') ?? '',
      )?.[1]
      url = next && new URL(next, answer.url).href
    }
    expect(seen).toEqual(['a', 'b', 'c', 'd', 'e'])
  })

  test('a blob is mounted from another repository', async () => {
    await client.push(of('here'), image)
    const mounted = image.blobs[1]?.digest ?? ''
    expect(await client.mountBlob(of('there'), mounted, of('here'))).toBe(true)
    expect((await client.request(`${of('there')}/blobs/${mounted}`, { method: 'HEAD' })).status).toBe(200)
  })

  test('refusals come through as they are, also those of uploads that are refused before their end', async () => {
    const name = of('refused')
    const wrong = await client.request(`${name}/blobs/uploads/?digest=${image.digest}`, {
      method: 'POST',
      body: new Uint8Array(layer.bytes),
    })
    expect(wrong.status).toBe(400)
    expect(await wrong.json()).toMatchObject({ errors: [{ code: 'DIGEST_INVALID' }] })

    const outgoing = request(`https://${nginx.address}/v2/${name}/manifests/v1`, {
      method: 'PUT',
      headers: { ...login, 'Content-Type': image.mediaType, 'Content-Length': large.bytes.length },
      agent,
    })
    outgoing.on('error', () => undefined)
    outgoing.write(large.bytes.subarray(0, mebibyte))
    // nginx takes an upload that it buffers to its end before it asks the registry.
    if (mode !== 'as recommended') outgoing.end(large.bytes.subarray(mebibyte))
    const [answer] = (await once(outgoing, 'response')) as [IncomingMessage]
    expect(answer.statusCode).toBe(413)
    expect(await json(answer)).toMatchObject({ errors: [{ code: expect.any(String) }] })
    outgoing.destroy()
  })

  test('requests have the id that nginx gave them in the log', async () => {
    await client.request(`${of('id')}/tags/list`)
    const lineOfIt = () =>
      registry
        .output()
        .split('\n')
        .find((line) => line.includes(`${of('id')}/tags/list`))
    await until(() => lineOfIt() !== undefined)
    expect(JSON.parse(lineOfIt() ?? '')).toMatchObject({ requestId: expect.stringMatching(/^[0-9a-f]{32}$/) })
  })

  describe('crane', () => {
    let client: ClientFolder
    beforeAll(async () => {
      client = await clientFolder('crane')
    })
    afterAll(() => client.remove())

    test('logs in, pushes, pulls, copies, lists and deletes', async () => {
      const env = { SSL_CERT_FILE: join(folder, 'ca.crt') }
      const crane = clientProgram(client, await tool('crane'), { env })
      const at = (reference: string) => `${nginx.address}/${of(reference)}`
      expect(await crane.fails('digest', at('crane:v1'))).toContain('UNAUTHORIZED')
      await crane.run('auth login -u alice -p', 'of wonderland', nginx.address)
      await client.file('image.tar', dockerArchive(image, 'crane:v1'))
      await crane.run('push image.tar', at('crane:v1'))
      await crane.run('validate --remote', at('crane:v1'))
      await crane.run('copy', at('crane:v1'), at('copied:v1'))
      expect(await crane.run('digest', at('copied:v1'))).toBe(await crane.run('digest', at('crane:v1')))
      expect(await crane.run('ls', at('crane'))).toBe('v1')
      await crane.run('pull', at('copied:v1'), 'pulled.tar')
      await crane.run('validate --tarball pulled.tar')
      await crane.run('delete', at('crane:v1'))
      expect(await crane.run('ls', at('crane'))).toBe('')
      const requests = (await nginx.requests()).filter((line) => line.includes('crane/'))
      expect(new Set(requests.map((line) => line.split(' ')[0]))).toEqual(new Set(['HTTP/2.0']))
    })
  })
})

test('a proxy that tells of another host and scheme changes no Location', async () => {
  const own = await mkdtemp(join(folder, 'forwarded-'))
  const certificate = await writeCertificate(own, 'registry', await authority.issue(['127.0.0.1']))
  const others = {
    Host: 'evil.example',
    Forwarded: '"host=evil.example;proto=gopher"',
    'X-Forwarded-Host': 'evil.example',
    'X-Forwarded-Proto': 'gopher',
  }
  const lines = Object.entries(others).map(([name, value]) => `proxy_set_header ${name} ${value};`)
  const changes = { 'proxy_set_header Host $host;': lines.join(' ') }
  const nginxFolder = await mkdtemp(join(own, 'nginx-'))
  const nginx = await startNginx({ folder: nginxFolder, upstream: registry.registry, certificate, changes })
  try {
    const answer = await fetch(`https://${nginx.address}/v2/forwarded/blobs/uploads/`, {
      method: 'POST',
      headers: login,
    })
    expect(answer.status).toBe(202)
    expect(answer.headers.get('Location')).toMatch(/^\/v2\/forwarded\/blobs\/uploads\//)
    expect(JSON.stringify([...answer.headers])).not.toMatch(/evil|gopher/)
  } finally {
    await nginx.stop()
  }
})

test('the way from nginx to the registry can be TLS, too, and nginx checks who is there', async () => {
  const own = await mkdtemp(join(folder, 'both-'))
  const outer = await writeCertificate(own, 'outer', await authority.issue(['127.0.0.1']))
  const inner = await writeCertificate(own, 'inner', await authority.issue(['registry.internal']))
  const server = await startStowage([
    '--storage=memory',
    `--tls-cert=${inner.certificate}`,
    `--tls-key=${inner.key}`,
  ])
  const verified = [
    'proxy_pass https://stowage;',
    'proxy_ssl_verify on;',
    `proxy_ssl_trusted_certificate ${join(folder, 'ca.crt')};`,
    'proxy_ssl_server_name on;',
  ].join(' ')
  const proxyFor = async (name: string) => {
    const changes = { 'proxy_pass http://stowage;': `${verified} proxy_ssl_name ${name};` }
    const nginxFolder = await mkdtemp(join(own, 'nginx-'))
    return startNginx({ folder: nginxFolder, upstream: server.registry, certificate: outer, changes })
  }
  const [right, wrong] = await Promise.all([proxyFor('registry.internal'), proxyFor('somebody.else')])
  try {
    const client = registryClient(`https://${right.address}`)
    await client.push('both', image, { tags: ['v1'] })
    await expectManifest(client, 'both', 'v1', image)
    expect((await fetch(`https://${wrong.address}/v2/`)).status).toBe(502)
  } finally {
    await Promise.all([right.stop(), wrong.stop(), server.stop()])
  }
})
