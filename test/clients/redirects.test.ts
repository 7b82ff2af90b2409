/** Blobs that clients fetch from the bucket itself (--s3-redirect), on MinIO. */
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { dockerArchive } from '../support/image-archives.ts'
import { blobOf, buildImage, seededBytes } from '../support/images.ts'
import { registryClient, type RegistryClient } from '../support/image-transfer.ts'
import { tool } from '../support/tools.ts'
import { clientFolder, clientProgram, type ClientFolder, type ClientProgram } from './client-folder.ts'
import { startRedirectingRegistries, type RedirectingRegistries } from './redirecting-registry.ts'

let folder: ClientFolder
let crane: ClientProgram
let oras: ClientProgram
let registries: RedirectingRegistries
let client: RegistryClient

beforeAll(async () => {
  folder = await clientFolder('redirects')
  crane = clientProgram(folder, await tool('crane'))
  oras = clientProgram(folder, await tool('oras'))
  registries = await startRedirectingRegistries()
  client = registryClient(registries.named.registry)
}, 600_000)
afterAll(async () => {
  await registries.stop()
  await folder.remove()
})

const named = (reference: string) => `${registries.named.registry}/${reference}`

const image = buildImage('redirected', { layerSizes: [2048, 3 * 2 ** 20] })

test('crane pushes to the registry, and pulls blobs from the host that the bucket is called by', async () => {
  const archive = await folder.file('image.tar', dockerArchive(image, 'app:v1'))
  await crane.run('push', archive, named('app:v1'))
  await crane.run('validate --remote', named('app:v1'))
  await crane.run('copy', named('app:v1'), named('copied:v1'))
  await crane.run('validate --remote', named('copied:v1'))
})

test('crane refuses a bucket by a private address where the registry has another name', async () => {
  await client.push('private', image, { tags: ['v1'] })
  await crane.run('validate --remote', `${registries.addressed.registry}/private:v1`)
  const byName = registries.addressed.registry.replace('127.0.0.1', 'localhost')
  expect(await crane.fails('validate --remote', `${byName}/private:v1`)).toMatch(/SSRF|private/)
})

test('oras pulls blobs from the bucket, and keeps what it knows of them from the registry', async () => {
  const content = seededBytes('redirected', 300_000)
  const { digest } = blobOf(content, 'application/octet-stream')
  const file = await folder.file('blob.bin', content)
  await oras.run('blob push --plain-http', named('bare'), file)
  await oras.run('blob fetch --plain-http --output fetched.bin', named(`bare@${digest}`))
  expect((await readFile(join(folder.path, 'fetched.bin'))).equals(content)).toBe(true)
  const descriptor = await oras.run('blob fetch --plain-http --descriptor', named(`bare@${digest}`))
  expect(JSON.parse(descriptor)).toMatchObject({ digest, size: content.length })
})

// A URL is signed for its method: what was signed for GET would answer HEAD 403.
test('stargz and soci (imitated) ask the URL of a HEAD with HEAD, and that of a GET by range', async () => {
  await client.push('lazy', image, { tags: ['v1'] })
  const layer = image.blobs[2]
  const path = `lazy/blobs/${layer?.digest}`
  const head = await client.request(path, { method: 'HEAD', redirect: 'manual' })
  expect(head.status).toBe(307)
  const stat = await fetch(head.headers.get('Location') ?? '', { method: 'HEAD' })
  expect([stat.status, stat.headers.get('Content-Length')]).toEqual([200, `${layer?.bytes.length}`])

  const get = await client.request(path, { redirect: 'manual' })
  const url = get.headers.get('Location') ?? ''
  for (const [start, end] of [
    [0, 99],
    [3_000_000, 3_000_199],
  ] as const) {
    const part = await fetch(url, { headers: { Range: `bytes=${start}-${end}` } })
    expect(part.status).toBe(206)
    const bytes = Buffer.from(await part.arrayBuffer())
    expect(bytes.equals(layer?.bytes.subarray(start, end + 1) ?? Buffer.alloc(0))).toBe(true)
  }
})
