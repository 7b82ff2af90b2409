/** ko, which builds a Go program and pushes it as an image, against the real server; nothing comes from a network. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { buildImage, descriptorOf, digestOf, type DescriptorFields } from '../support/images.ts'
import { acceptAll, registryClient, type RegistryClient } from '../support/image-transfer.ts'
import { runOk } from '../support/processes.ts'
import { startStowage, type Stowage } from '../support/stowage.ts'
import { tool } from '../support/tools.ts'
import { clientFolder, clientProgram, type ClientFolder } from './client-folder.ts'
import { startRegistryProxy, type RegistryProxy } from './registry-proxy.ts'

let folder: ClientFolder
let buildCache = ''
let server: Stowage
let proxy: RegistryProxy
let client: RegistryClient

const base = buildImage('base of ko')

beforeAll(async () => {
  folder = await clientFolder('ko')
  // Below the folder, which is TMPDIR: right there Go ignores a go.mod.
  await mkdir(join(folder.path, 'hello'))
  await folder.file('hello/go.mod', 'module example.org/hello\n\ngo 1.21\n')
  await folder.file('hello/main.go', 'package main\n\nfunc main() { println("hello") }\n')
  // The user's own, where the standard library is compiled already.
  buildCache = (await runOk('go', ['env', 'GOCACHE'])).trim()
  server = await startStowage(['--storage', 'memory'])
  client = registryClient(server.registry)
  await client.push('base', base, { tags: ['v1'] })
  await tool('ko')
}, 600_000)
afterAll(async () => {
  await server.stop()
  await folder.remove()
})

beforeEach(async () => {
  proxy = await startRegistryProxy(server.registry)
})
afterEach(() => proxy.stop())

/** Builds the program and pushes it to the repository; gives the digest of the image. */
async function build(repository: string, tags: string): Promise<string> {
  const env = {
    KO_DOCKER_REPO: `${proxy.registry}/${repository}`,
    KO_DEFAULTBASEIMAGE: `${proxy.registry}/base:v1`,
    GOCACHE: buildCache,
    GOENV: 'off',
    GOFLAGS: '',
    GOPROXY: 'off',
    GOTOOLCHAIN: 'local',
    GOWORK: 'off',
  }
  const ko = clientProgram(folder, await tool('ko'), { cwd: join(folder.path, 'hello'), env })
  const command = 'build --bare --insecure-registry --platform linux/amd64 --tags'
  const image = await ko.run(command, tags, '.')
  expect(image.startsWith(`${proxy.registry}/${repository}`)).toBe(true)
  return image.slice(image.indexOf('@') + 1)
}

interface Manifest {
  readonly config: DescriptorFields
  readonly layers: readonly DescriptorFields[]
  readonly annotations?: Readonly<Record<string, string>>
}

interface Config {
  readonly config: { readonly Entrypoint: readonly string[] }
  readonly rootfs: { readonly diff_ids: readonly string[] }
}

/** The manifest of a tag, and its digest. */
async function readManifest(
  repository: string,
  tag: string,
): Promise<Manifest & { readonly digest: string }> {
  const response = await client.request(`${repository}/manifests/${tag}`, { headers: { Accept: acceptAll } })
  expect(response.status).toBe(200)
  const bytes = Buffer.from(await response.arrayBuffer())
  return { ...(JSON.parse(bytes.toString()) as Manifest), digest: digestOf(bytes) }
}

/** A blob, which has to be what its descriptor says. */
async function readBlob(repository: string, { digest, size }: DescriptorFields): Promise<Buffer> {
  const response = await client.request(`${repository}/blobs/${digest}`)
  const bytes = Buffer.from(await response.arrayBuffer())
  expect({ digest: digestOf(bytes), size: bytes.length }).toEqual({ digest, size })
  return bytes
}

test('a program is built on a base of this registry, and is an image with all its tags', async () => {
  const digest = await build('hello', 'v1,latest')
  const image = await readManifest('hello', 'v1')
  expect([image.digest, (await readManifest('hello', 'latest')).digest]).toEqual([digest, digest])
  expect(image.annotations).toMatchObject({ 'org.opencontainers.image.base.digest': base.digest })
  expect(image.layers[0]).toEqual(base.blobs.slice(1).map(descriptorOf)[0])

  const config = JSON.parse((await readBlob('hello', image.config)).toString()) as Config
  expect(config).toMatchObject({
    os: 'linux',
    architecture: 'amd64',
    config: { Entrypoint: ['/ko-app/hello'] },
  })
  const tars: Buffer[] = []
  for (const layer of image.layers) tars.push(gunzipSync(await readBlob('hello', layer)))
  expect(config.rootfs.diff_ids).toEqual(tars.map((tar) => digestOf(tar)))
  expect(tars.at(-1)?.includes('ko-app/hello')).toBe(true)
}, 60_000)

test('its layers travel as one PATCH each, and those of the base are mounted', async () => {
  await build('travelled', 'v1')
  const mounted = `from=base&mount=${encodeURIComponent(base.blobs[1]?.digest ?? '')}`
  expect(proxy.log(/^POST .*mount=/)).toEqual([
    expect.stringMatching(new RegExp(`^POST /v2/travelled/blobs/uploads/\\?${mounted}&.* 201$`)),
  ])
  // The config, its own two layers; the list of materials, and the config of that.
  expect(proxy.log(/^POST .*uploads\/ 202$/)).toHaveLength(5)
  expect(proxy.log(/^PATCH .* 202$/)).toHaveLength(5)
  expect(proxy.log(/^PUT .*uploads.* 201$/)).toHaveLength(5)
  expect(proxy.log(/^DELETE/)).toEqual([])
  expect(proxy.requests.filter(({ status }) => status >= 400 && status !== 404)).toEqual([])
}, 60_000)

test('its list of materials is kept under a tag that names the image', async () => {
  const digest = await build('listed', 'v1')
  const tag = `${digest.replace(':', '-')}.sbom`
  expect(await client.listTags('listed')).toEqual([tag, 'v1'])
  const { layers } = await readManifest('listed', tag)
  expect(layers).toMatchObject([{ mediaType: 'text/spdx+json' }])
  for (const layer of layers) {
    const materials = JSON.parse((await readBlob('listed', layer)).toString()) as unknown
    expect(materials).toMatchObject({ SPDXID: 'SPDXRef-DOCUMENT' })
  }
}, 60_000)

test('what was pushed before is left out, and a new tag is all that is sent', async () => {
  const digest = await build('again', 'v1')
  proxy.forget()
  expect(await build('again', 'v2')).toBe(digest)
  expect((await readManifest('again', 'v2')).digest).toBe(digest)
  expect(proxy.log(/^(POST|PATCH|PUT)/)).toEqual(['PUT /v2/again/manifests/v2 201'])
}, 60_000)
