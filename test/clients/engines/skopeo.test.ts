/** skopeo of Debian, and by it the library that podman, buildah and CRI-O pull and push with. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { dockerArchive, writeImageLayout } from '../../support/image-archives.ts'
import { buildImage, buildIndex, linuxArm64, type TestManifest } from '../../support/images.ts'
import { expectManifest, registryClient, type RegistryClient } from '../../support/image-transfer.ts'
import { startStowage, type Stowage } from '../../support/stowage.ts'
import { clientFolder, type ClientFolder, type ClientProgram } from '../client-folder.ts'
import { startRegistryProxy, type RegistryProxy } from '../registry-proxy.ts'
import { engineProgram } from './own-mounts.ts'

let folder: ClientFolder
let skopeo: ClientProgram
let server: Stowage
let proxy: RegistryProxy
let client: RegistryClient

beforeAll(async () => {
  folder = await clientFolder('skopeo')
  skopeo = await engineProgram(folder, 'skopeo', ['--insecure-policy'])
  server = await startStowage(['--storage', 'memory'])
  client = registryClient(server.registry)
})
afterAll(async () => {
  await server.stop()
  await folder.remove()
})

beforeEach(async () => {
  proxy = await startRegistryProxy(server.registry)
})
afterEach(() => proxy.stop())

const at = (reference: string) => `docker://${proxy.registry}/${reference}`
const ascending = (one: number, other: number) => one - other
const plain = { both: '--src-tls-verify=false --dest-tls-verify=false', one: '--tls-verify=false' } as const

async function layout(name: string, ...manifests: TestManifest[]): Promise<string> {
  const path = join(folder.path, name)
  await mkdir(path, { recursive: true })
  await writeImageLayout(path, manifests)
  return `oci:${path}`
}

describe('copies', () => {
  test('an OCI layout into the registry and back, byte for byte', async () => {
    const image = buildImage('oci', { layerSizes: [2048, 3 * 2 ** 20] })
    await skopeo.run(`copy ${plain.both}`, await layout('in', image), at('oci/app:v1'))
    await expectManifest(client, 'oci/app', 'v1', image)
    await skopeo.run(`copy ${plain.both}`, at('oci/app:v1'), `dir:${join(folder.path, 'out')}`)
    expect((await readFile(join(folder.path, 'out/manifest.json'))).equals(image.bytes)).toBe(true)
    for (const { digest, bytes } of image.blobs) {
      const copied = await readFile(join(folder.path, 'out', digest.replace('sha256:', '')))
      expect(copied.equals(bytes)).toBe(true)
    }
  })

  test('a Docker archive, which is pushed as Docker schema 2', async () => {
    const image = buildImage('docker', { format: 'docker', layerSizes: [100_352] })
    const archive = await folder.file('docker.tar', dockerArchive(image, 'docker:v1'))
    await skopeo.run(`copy ${plain.both}`, `docker-archive:${archive}`, at('docker/app:v1'))
    const inspected = JSON.parse(
      await skopeo.run(`inspect --raw ${plain.one}`, at('docker/app:v1')),
    ) as object
    expect(inspected).toMatchObject({
      mediaType: image.mediaType,
      config: { digest: image.blobs[0]?.digest },
    })
  })

  test('all images of an index, or the one of a platform', async () => {
    const arm = buildImage('arm', { platform: linuxArm64 })
    const index = buildIndex([buildImage('amd'), arm])
    await client.push('multi/from', index, { tags: ['v1'] })
    await skopeo.run(`copy --all ${plain.both}`, at('multi/from:v1'), at('multi/to:v1'))
    await expectManifest(client, 'multi/to', 'v1', index)
    await skopeo.run(`--override-arch arm64 copy ${plain.both}`, at('multi/from:v1'), at('multi/to:arm'))
    await expectManifest(client, 'multi/to', 'arm', arm)
  })

  test('between the formats of Docker and OCI', async () => {
    await client.push('format', buildImage('format'), { tags: ['oci'] })
    await skopeo.run(`copy --format v2s2 ${plain.both}`, at('format:oci'), at('format:docker'))
    await skopeo.run(`copy --format oci ${plain.both}`, at('format:docker'), at('format:again'))
    const types = ['docker', 'again'].map(async (tag) =>
      (await client.request(`format/manifests/${tag}`)).headers.get('Content-Type'),
    )
    expect(await Promise.all(types)).toEqual([
      'application/vnd.docker.distribution.manifest.v2+json',
      'application/vnd.oci.image.manifest.v1+json',
    ])
  })
})

describe('repositories', () => {
  test('are synchronized with all their tags into a folder, and out of it into another', async () => {
    const images = ['v1', 'v2', 'v3'].map((tag) => ({ tag, image: buildImage(`sync ${tag}`) }))
    for (const { tag, image } of images) await client.push('sync/from', image, { tags: [tag] })
    await mkdir(join(folder.path, 'synced'))
    await skopeo.run(
      `sync --src docker --dest dir --all ${plain.both}`,
      `${proxy.registry}/sync/from`,
      join(folder.path, 'synced'),
    )
    await skopeo.run(
      `sync --src dir --dest docker --all ${plain.both}`,
      join(folder.path, 'synced'),
      `${proxy.registry}/sync/to`,
    )
    expect(await client.listTags('sync/to/from')).toEqual(['v1', 'v2', 'v3'])
    for (const { tag, image } of images) await expectManifest(client, 'sync/to/from', tag, image)
  })

  test('are listed, inspected, and emptied by delete', async () => {
    const image = buildImage('deleted')
    await client.push('deleted', image, { tags: ['v1', 'v2'] })
    await client.push('deleted', buildImage('kept'), { tags: ['v3'] })
    const listed = JSON.parse(await skopeo.run(`list-tags ${plain.one}`, at('deleted'))) as { Tags: string[] }
    expect(listed.Tags).toEqual(['v1', 'v2', 'v3'])
    const inspected = JSON.parse(await skopeo.run(`inspect ${plain.one}`, at('deleted:v1'))) as object
    expect(inspected).toMatchObject({ Digest: image.digest, RepoTags: ['v1', 'v2', 'v3'] })

    // By its digest, so that it goes with all its tags.
    await skopeo.run(`delete ${plain.one}`, at('deleted:v1'))
    expect(proxy.log(/^DELETE/)).toEqual([`DELETE /v2/deleted/manifests/${image.digest} 202`])
    expect(await client.listTags('deleted')).toEqual(['v3'])
    expect(await skopeo.fails(`inspect ${plain.one}`, at('deleted:v1'))).toContain('manifest unknown')
  })
})

describe('on the wire', () => {
  test('a blob is one PATCH without Content-Range, and an empty PUT answered 201', async () => {
    const image = buildImage('wire', { layerSizes: [1_000_448] })
    await skopeo.run(`copy ${plain.both}`, await layout('wire', image), at('wire:v1'))
    const blobs = image.blobs.map(({ bytes }) => bytes.length).sort(ascending)
    const patches = proxy.requests.filter(({ method }) => method === 'PATCH')
    expect(patches.map(({ bodyBytes }) => bodyBytes).sort(ascending)).toEqual(blobs)
    for (const { headers, status } of patches) {
      expect(headers).not.toHaveProperty('content-range')
      expect(status).toBe(202)
    }
    const puts = proxy.requests.filter(({ method, path }) => method === 'PUT' && path.includes('/uploads/'))
    expect(puts.map(({ bodyBytes, status }) => ({ bodyBytes, status }))).toEqual(
      blobs.map(() => ({ bodyBytes: 0, status: 201 })),
    )
  })

  test('the size of a blob that is here is the Content-Length of its HEAD', async () => {
    const image = buildImage('sized', { layerSizes: [300_032] })
    await client.push('sized', image, { tags: ['v1'] })
    await skopeo.run(`copy ${plain.both}`, await layout('sized', image), at('sized:v2'))
    await expectManifest(client, 'sized', 'v2', image)
    const heads = proxy.requests.filter(({ method, path }) => method === 'HEAD' && path.includes('/blobs/'))
    const lengths = heads.map(({ path, answerHeaders }) => [path, answerHeaders['content-length']])
    expect(Object.fromEntries(lengths)).toEqual(
      Object.fromEntries(
        image.blobs.map(({ digest, bytes }) => [`/v2/sized/blobs/${digest}`, `${bytes.length}`]),
      ),
    )
    expect(proxy.log(/^(POST|PATCH)/)).toEqual([])
  })

  test('blobs of another repository are mounted', async () => {
    const image = buildImage('mounted', { layerSizes: [300_032] })
    const source = await layout('mounted', image)
    await skopeo.run(`copy ${plain.both}`, source, at('mounted/from:v1'))
    proxy.forget()
    await skopeo.run(`copy ${plain.both}`, source, at('mounted/to:v1'))
    // The layer is; a config is always pushed.
    expect(proxy.log(/^POST .*mount=.* 201$/)).toHaveLength(1)
    expect(proxy.log(/^PATCH/)).toHaveLength(1)
    await expectManifest(client, 'mounted/to', 'v1', image)
  })

  test('where a mount is answered 202 its session is deleted, and the blob is pushed', async () => {
    const image = buildImage('unmounted', { layerSizes: [300_032] })
    const [, layer] = image.blobs
    const source = await layout('unmounted', image)
    await skopeo.run(`copy ${plain.both}`, source, at('unmounted/from:v1'))
    // It goes between skopeo's question for it and the mount.
    await client.deleteManifest('unmounted/from', image.digest)
    await client.deleteBlob('unmounted/from', `${layer?.digest}`)
    const seenBefore = { status: 200, headers: { 'content-length': `${layer?.bytes.length}` } }
    proxy.misbehave({
      matches: ({ method, path }) => method === 'HEAD' && path.startsWith('/v2/unmounted/from/blobs/'),
      times: 1,
      does: { answer: seenBefore },
    })
    proxy.forget()
    await skopeo.run(`copy ${plain.both}`, source, at('unmounted/to:v1'))
    const mounts = proxy.requests.filter(({ path }) => path.includes('mount='))
    expect(mounts.map(({ status }) => status)).toEqual([202])
    expect(proxy.log(/^DELETE/)).toEqual([`DELETE ${mounts[0]?.answerHeaders['location']} 204`])
    await expectManifest(client, 'unmounted/to', 'v1', image)
  })

  test('an answer of 429 is asked for again after its Retry-After', async () => {
    await client.push('limited', buildImage('limited'), { tags: ['v1'] })
    const answer = { status: 429, headers: { 'retry-after': '1' } }
    proxy.misbehave({ matches: ({ path }) => path.includes('/manifests/'), times: 1, does: { answer } })
    const started = performance.now()
    await skopeo.run(`inspect --no-tags ${plain.one}`, at('limited:v1'))
    expect(performance.now() - started).toBeGreaterThanOrEqual(1_000)
    expect(proxy.log(/manifests\/v1/)).toEqual([
      'GET /v2/limited/manifests/v1 429',
      'GET /v2/limited/manifests/v1 200',
    ])
  })

  test('names and references that are not here are reported by the code of the error', async () => {
    await client.push('known', buildImage('known'), { tags: ['v1'] })
    expect(await skopeo.fails(`inspect ${plain.one}`, at('known:v2'))).toContain('manifest unknown')
    expect(await skopeo.fails(`list-tags ${plain.one}`, at('no/such'))).toContain('404')
  })
})
