/** crane, as its users call it, against the real server: on memory, and on a file system with a restart in between. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mediaTypes } from '../../src/oci/media-types.ts'
import { dockerArchive, writeImageLayout } from '../support/image-archives.ts'
import {
  buildArtifact,
  buildImage,
  buildIndex,
  digestOf,
  linuxAmd64,
  linuxArm64,
  seededBytes,
} from '../support/images.ts'
import { expectManifest, registryClient, type RegistryClient } from '../support/image-transfer.ts'
import { run, runOk } from '../support/processes.ts'
import { startStowage, type Stowage } from '../support/stowage.ts'
import { buildTar } from '../support/tar.ts'
import { tool } from '../support/tools.ts'
import { startRegistryProxy } from './registry-proxy.ts'

let folder = ''
let env: Record<string, string | undefined> = {}
let server: Stowage
let client: RegistryClient

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stowage-crane-'))
  await mkdir(join(folder, 'home'))
  // No credentials, settings or proxies of whoever runs the tests.
  const home = join(folder, 'home')
  env = { HOME: home, DOCKER_CONFIG: home, XDG_RUNTIME_DIR: home, REGISTRY_AUTH_FILE: undefined }
  // Built first where it never was: that is not the time of the first test.
  await tool('crane')
}, 600_000)
afterAll(() => rm(folder, { recursive: true, force: true }))

const image = buildImage('crane', { layerSizes: [2048, 65536, 6 * 2 ** 20] })
const arm = buildImage('crane arm', { platform: linuxArm64 })
const index = buildIndex([image, arm])

/** What it prints, without the last line's end. */
async function crane(...args: string[]): Promise<string> {
  return (await runOk(await tool('crane'), args, { env, cwd: folder })).trimEnd()
}

async function craneFails(...args: string[]): Promise<string> {
  const { code, stderr } = await run(await tool('crane'), args, { env, cwd: folder })
  expect(code).toBe(1)
  return stderr
}

const at = (reference: string) => `${server.registry}/${reference}`

async function startServer(...args: string[]): Promise<void> {
  server = await startStowage(args)
  client = registryClient(server.registry)
}

/** A file below the folder of these tests. */
async function file(name: string, bytes: Buffer): Promise<string> {
  await writeFile(join(folder, name), bytes)
  return name
}

describe('crane on memory', () => {
  // Every test has repositories of its own.
  beforeAll(() => startServer('--storage', 'memory'))
  afterAll(() => server.stop())

  test('pushes an archive, and what it pulls is that image again', async () => {
    await crane('push', await file('image.tar', dockerArchive(image, 'test/app:v1')), at('test/app:v1'))
    await crane('validate', '--remote', at('test/app:v1'))
    const digest = await crane('digest', at('test/app:v1'))
    expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/)
    expect(digestOf(Buffer.from(await crane('manifest', at('test/app:v1'))))).toBe(digest)
    expect(await crane('config', at(`test/app@${digest}`))).toBe(image.blobs[0]?.bytes.toString())

    await crane('pull', at('test/app:v1'), 'pulled.tar')
    await crane('validate', '--tarball', 'pulled.tar')
    await crane('push', 'pulled.tar', at('test/other:v2'))
    expect(await crane('digest', at('test/other:v2'))).toBe(digest)
  })

  test('pushes an image layout, byte for byte', async () => {
    await writeImageLayout(join(folder, 'layout'), [image])
    await crane('push', 'layout', at('layout:v1'))
    await expectManifest(client, 'layout', 'v1', image)
    await crane('pull', '--format=oci', at('layout:v1'), 'pulled-layout')
    for (const { digest, bytes } of [image, ...image.blobs]) {
      const pulled = await readFile(join(folder, 'pulled-layout', 'blobs', ...digest.split(':')))
      expect(pulled.equals(bytes)).toBe(true)
    }
  })

  test('pushes an index, and takes out of it what a platform needs', async () => {
    await writeImageLayout(join(folder, 'layout-of-index'), [index])
    await crane('push', '--index', 'layout-of-index', at('multi:layout'))
    await client.push('multi', index, { tags: ['v1'] })
    await crane('validate', '--remote', at('multi:v1'))
    expect(await crane('digest', at('multi:v1'))).toBe(index.digest)
    expect(await crane('digest', '--platform', 'linux/arm64', at('multi:v1'))).toBe(arm.digest)
    expect(await crane('digest', '--platform', 'linux/amd64', at('multi:v1'))).toBe(image.digest)
    expect(await craneFails('digest', '--platform', 'linux/s390x', at('multi:v1'))).toContain(
      'no child with platform',
    )
    await crane('pull', '--platform', 'linux/arm64', at('multi:v1'), 'arm.tar')
    await crane('validate', '--tarball', 'arm.tar')
  })

  test('makes an index of images, and filters it', async () => {
    await client.push('made', image, { tags: ['amd64'] })
    await client.push('made', arm, { tags: ['arm64'] })
    await crane('index', 'append', '-m', at('made:amd64'), '-m', at('made:arm64'), '-t', at('made:all'))
    const made = JSON.parse(await crane('manifest', at('made:all'))) as { manifests: { digest: string }[] }
    expect(made.manifests.map(({ digest }) => digest)).toEqual([image.digest, arm.digest])
    await crane('validate', '--remote', at('made:all'))
    await crane('index', 'filter', at('made:all'), '--platform', 'linux/arm64', '-t', at('made:arm'))
    expect(await crane('digest', '--platform', 'linux/arm64', at('made:arm'))).toBe(arm.digest)
  })

  test('copies an index to another repository with all that is below it', async () => {
    await client.push('from/here', index, { tags: ['v1'] })
    await crane('copy', at('from/here:v1'), at('to/there:v2'))
    await expectManifest(client, 'to/there', 'v2', index)
    await crane('validate', '--remote', at('to/there:v2'))
    await crane('copy', at(`from/here@${arm.digest}`), at('to/there:arm'))
    await expectManifest(client, 'to/there', 'arm', arm)
  })

  test('copies all tags of a repository, and only those', async () => {
    for (const tag of ['a', 'b', 'c']) await client.push('all', buildImage(tag), { tags: [tag] })
    await crane('copy', '--all-tags', at('all'), at('copied'))
    expect(await crane('ls', at('copied'))).toBe('a\nb\nc')
  })

  test('tags, lists and deletes', async () => {
    await client.push('some/app', image, { tags: ['v1'] })
    await client.push('another', arm, { tags: ['v1'] })
    await crane('tag', at('some/app:v1'), 'latest')
    expect(await crane('digest', at('some/app:latest'))).toBe(image.digest)
    expect(await crane('ls', at('some/app'))).toBe('latest\nv1')
    expect((await crane('catalog', server.registry)).split('\n')).toEqual(
      expect.arrayContaining(['another', 'some/app']),
    )

    await crane('delete', at('some/app:latest'))
    expect(await crane('ls', at('some/app'))).toBe('v1')
    expect(await craneFails('digest', at('some/app:latest'))).toContain('404')
    await crane('delete', at(`some/app@${image.digest}`))
    expect(await crane('ls', at('some/app'))).toBe('')
    expect(await craneFails('manifest', at('some/app:v1'))).toContain('MANIFEST_UNKNOWN')
    expect(await craneFails('ls', at('no/such'))).toContain('NAME_UNKNOWN')
  })

  test('lists and deletes many tags, a thousand of them at a time', async () => {
    await client.push('many', image)
    const tags = Array.from({ length: 1_100 }, (_, at) => `v${String(at).padStart(4, '0')}`)
    for (let start = 0; start < tags.length; start += 100) {
      const query = new URLSearchParams(tags.slice(start, start + 100).map((tag) => ['tag', tag]))
      const body = new Uint8Array(image.bytes)
      const headers = { 'Content-Type': image.mediaType }
      const path = `many/manifests/${image.digest}?${query.toString()}`
      expect((await client.request(path, { method: 'PUT', body, headers })).status).toBe(201)
    }
    const proxy = await startRegistryProxy(server.registry)
    try {
      expect(await crane('ls', `${proxy.registry}/many`)).toBe(tags.join('\n'))
      expect(proxy.log(/tags/)).toEqual([
        'GET /v2/many/tags/list?n=1000 200',
        'GET /v2/many/tags/list?n=1000&last=v0999 200',
      ])
    } finally {
      await proxy.stop()
    }
    await crane('delete', at(`many@${image.digest}`))
    expect(await crane('ls', at('many'))).toBe('')
  })

  test('appends a layer to an image, and changes its labels', async () => {
    await client.push('base', image, { tags: ['v1'] })
    const tar = buildTar([{ name: 'more', content: seededBytes('more', 100_000) }])
    await crane('append', '-b', at('base:v1'), '-f', await file('more.tar', tar), '-t', at('base:v2'))
    await crane('validate', '--remote', at('base:v2'))
    const appended = JSON.parse(await crane('manifest', at('base:v2'))) as { layers: unknown[] }
    expect(appended.layers).toHaveLength(image.blobs.length)

    await crane('mutate', at('base:v2'), '--label', 'a=b', '--annotation', 'c=d', '-t', at('base:v3'))
    await crane('validate', '--remote', at('base:v3'))
    expect(await crane('config', at('base:v3'))).toContain('"a":"b"')
    expect(await crane('manifest', at('base:v3'))).toContain('"c":"d"')
  })

  test('reads Docker images and manifest lists as their types', async () => {
    const docker = buildImage('docker', { format: 'docker', platform: linuxAmd64 })
    const list = buildIndex([docker], { format: 'docker' })
    await client.push('docker', list, { tags: ['v1'] })
    await crane('validate', '--remote', at('docker:v1'))
    expect(JSON.parse(await crane('manifest', at('docker:v1')))).toMatchObject({
      mediaType: mediaTypes.dockerManifestList,
    })
    expect(await crane('digest', '--platform', 'linux/amd64', at('docker:v1'))).toBe(docker.digest)
  })

  test('copies an artifact that is about an image, and finds it by the bytes of its blob', async () => {
    const artifact = buildArtifact('sbom', { subject: image })
    await client.push('signed', image, { tags: ['v1'] })
    await client.push('signed', artifact, { tags: ['sbom'] })
    await crane('copy', at('signed:sbom'), at('elsewhere:sbom'))
    await expectManifest(client, 'elsewhere', 'sbom', artifact)
    const content = artifact.blobs[1]
    expect(await crane('blob', at(`elsewhere@${content?.digest}`))).toBe(content?.bytes.toString().trimEnd())
  })
})

test('what crane pushed to a file system is there after a restart', async () => {
  const storage = ['--storage', 'filesystem', '--root', join(folder, 'root')]
  await startServer(...storage)
  try {
    const archive = await file('kept.tar', dockerArchive(image, 'kept:v1'))
    await crane('push', archive, at('kept:v1'))
    const digest = await crane('digest', at('kept:v1'))
    await crane('copy', at('kept:v1'), at('kept/below:v1'))
    expect(await server.stop()).toEqual({ code: 0, signal: null })

    await startServer(...storage)
    expect(await crane('catalog', server.registry)).toBe('kept\nkept/below')
    for (const name of ['kept:v1', 'kept/below:v1']) {
      expect(await crane('digest', at(name))).toBe(digest)
      await crane('validate', '--remote', at(name))
    }
  } finally {
    await server.stop()
  }
})
