/** Docker 20.10, Debian's: the daemon that pulls and pushes, and its command line. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { dockerArchive } from '../../support/image-archives.ts'
import { buildImage, buildIndex, linuxAmd64, linuxArm64, type TestManifest } from '../../support/images.ts'
import { expectManifest, registryClient, type RegistryClient } from '../../support/image-transfer.ts'
import { startStowage, type Stowage } from '../../support/stowage.ts'
import { clientFolder, clientProgram, type ClientFolder, type ClientProgram } from '../client-folder.ts'
import { startRegistryProxy, type RegistryProxy } from '../registry-proxy.ts'
import { startDockerd, type Daemon } from './daemons.ts'

let folder: ClientFolder
let daemon: Daemon
let docker: ClientProgram
let server: Stowage
let proxy: RegistryProxy
let client: RegistryClient

beforeAll(async () => {
  folder = await clientFolder('docker')
  daemon = await startDockerd(folder)
  docker = clientProgram(folder, '/usr/bin/docker', { first: ['--host', `unix://${daemon.socket}`] })
  server = await startStowage(['--storage', 'memory'])
  client = registryClient(server.registry)
})
afterAll(async () => {
  await server.stop()
  await daemon.stop()
  await folder.remove()
})

beforeEach(async () => {
  proxy = await startRegistryProxy(server.registry)
})
afterEach(() => proxy.stop())

const at = (reference: string) => `${proxy.registry}/${reference}`

/** An image that the daemon has by this name, which no registry knows yet. */
async function load(reference: string, image: TestManifest): Promise<void> {
  await docker.run('load --quiet --input', await folder.file('load.tar', dockerArchive(image, at(reference))))
}

const idOf = (image: TestManifest) => image.blobs[0]?.digest

/** A folder with a Dockerfile and a file to copy. */
async function context(name: string, dockerfile: string): Promise<string> {
  await mkdir(join(folder.path, name))
  await folder.file(`${name}/Dockerfile`, dockerfile)
  await folder.file(`${name}/content.txt`, `content of ${name}\n`)
  return join(folder.path, name)
}

describe('images', () => {
  test('are pushed and pulled again, and are the same images', async () => {
    const image = buildImage('pushed', { format: 'docker', layerSizes: [2048, 300_032] })
    await load('pushed:v1', image)
    const pushed = await docker.run('push', at('pushed:v1'))
    const digest = /digest: (sha256:[0-9a-f]{64})/.exec(pushed)?.[1]
    await docker.run('rmi', at('pushed:v1'))
    expect(await docker.run('pull', at('pushed:v1'))).toContain(`Digest: ${digest}`)
    expect(await docker.run('inspect --format {{.Id}}', at('pushed:v1'))).toBe(idOf(image))
  })

  test('are pulled by digest, and out of an index by their platform', async () => {
    const arm = buildImage('arm', { platform: linuxArm64 })
    const index = buildIndex([buildImage('amd', { platform: linuxAmd64 }), arm])
    await client.push('multi', index, { tags: ['v1'] })
    await docker.run('pull --quiet --platform linux/arm64', at('multi:v1'))
    expect(await docker.run('inspect --format {{.Id}}', at('multi:v1'))).toBe(idOf(arm))
    await docker.run('pull --quiet', at(`multi@${arm.digest}`))
    expect(await docker.run('inspect --format {{.Id}}', at(`multi@${arm.digest}`))).toBe(idOf(arm))
  })

  test('are pushed with all their tags', async () => {
    const image = buildImage('tags', { format: 'docker' })
    await load('tags:v1', image)
    for (const tag of ['v2', 'latest']) await docker.run('tag', at('tags:v1'), at(`tags:${tag}`))
    await docker.run('push --all-tags', at('tags'))
    expect(await client.listTags('tags')).toEqual(['latest', 'v1', 'v2'])
  })

  test.each(['1', '0'])('are built on an image of the registry (DOCKER_BUILDKIT=%s)', async (buildKit) => {
    const base = buildImage(`base ${buildKit}`)
    await client.push('base', base, { tags: [`v${buildKit}`] })
    const dockerfile = `FROM ${at(`base:v${buildKit}`)}\nCOPY content.txt /\n`
    const folderOfBuild = await context(`build-${buildKit}`, dockerfile)
    const builder = clientProgram(folder, '/usr/bin/docker', {
      first: ['--host', `unix://${daemon.socket}`],
      env: { DOCKER_BUILDKIT: buildKit },
    })
    await builder.run('build --quiet --tag', at(`built:v${buildKit}`), folderOfBuild)
    await docker.run('push', at(`built:v${buildKit}`))
    const manifest = (await (await client.request(`built/manifests/v${buildKit}`)).json()) as {
      layers: { digest: string }[]
    }
    expect(manifest.layers).toHaveLength(2)
  })

  test('are put together to a manifest list', async () => {
    const options = { format: 'docker' } as const
    const images = [
      buildImage('list amd', options),
      buildImage('list arm', { ...options, platform: linuxArm64 }),
    ]
    for (const image of images)
      await client.push('list', image, { tags: [image.platform?.architecture ?? ''] })
    await docker.run('manifest create --insecure', at('list:all'), at('list:amd64'), at('list:arm64'))
    await docker.run('manifest push --insecure', at('list:all'))
    const list = (await (await client.request('list/manifests/all')).json()) as {
      manifests: { digest: string }[]
    }
    expect(list.manifests.map(({ digest }) => digest)).toEqual(images.map(({ digest }) => digest))
  })
})

describe('on the wire', () => {
  test('a layer is one PATCH without length or range, an empty PUT, and a HEAD', async () => {
    await load('wire:v1', buildImage('wire', { format: 'docker', layerSizes: [1_000_448] }))
    await docker.run('push', at('wire:v1'))
    const patches = proxy.requests.filter(({ method }) => method === 'PATCH')
    expect(patches).toHaveLength(2)
    for (const { headers, bodyBytes, answerHeaders, status, path } of patches) {
      expect(headers).not.toHaveProperty('content-range')
      expect(headers['transfer-encoding']).toBe('chunked')
      expect(status).toBe(202)
      expect(answerHeaders.range).toBe(`0-${bodyBytes - 1}`)
      expect(path).toContain(`/${answerHeaders['docker-upload-uuid'] as string}`)
    }
    const puts = proxy.requests.filter(({ method, path }) => method === 'PUT' && path.includes('/uploads/'))
    expect(puts.map(({ bodyBytes, status }) => ({ bodyBytes, status }))).toEqual([
      { bodyBytes: 0, status: 201 },
      { bodyBytes: 0, status: 201 },
    ])
    for (const { path } of puts) {
      const digest = new URL(path, 'http://registry').searchParams.get('digest') ?? ''
      expect(proxy.log()).toContain(`HEAD /v2/wire/blobs/${digest} 200`)
    }
  })

  test('a layer that is in another repository is mounted, and one that went is pushed', async () => {
    const image = buildImage('mounted', { format: 'docker', layerSizes: [300_032] })
    await load('mounted/from:v1', image)
    await docker.run('push', at('mounted/from:v1'))
    await docker.run('tag', at('mounted/from:v1'), at('mounted/to:v1'))
    proxy.forget()
    await docker.run('push', at('mounted/to:v1'))
    expect(proxy.log(/^POST .*mount=.* 201$/)).toHaveLength(1)

    const from = (await (await client.request('mounted/from/manifests/v1')).json()) as {
      layers: { digest: string }[]
    }
    for (const repository of ['mounted/from', 'mounted/to']) {
      const head = await client.request(`${repository}/manifests/v1`, { method: 'HEAD' })
      await client.deleteManifest(repository, head.headers.get('Docker-Content-Digest') ?? '')
      for (const { digest } of from.layers) await client.deleteBlob(repository, digest)
    }
    await docker.run('tag', at('mounted/from:v1'), at('mounted/late:v1'))
    proxy.forget()
    await docker.run('push', at('mounted/late:v1'))
    expect(proxy.log(/^POST .*mount=.* 202$/)).not.toEqual([])
    expect(proxy.log(/^PATCH .* 202$/)).not.toEqual([])
    await docker.run('rmi', at('mounted/late:v1'))
    await docker.run('pull --quiet', at('mounted/late:v1'))
  })

  test('what goes wrong is told in the words of the JSON of the error', async () => {
    await client.push('known', buildImage('known'), { tags: ['v1'] })
    expect(await docker.fails('pull', at('known:v2'))).toContain('manifest unknown')
    expect(await docker.fails('pull', at('no/such:v1'))).toMatch(/not found|unknown/)
    const json = { code: 'TOOMANYREQUESTS', message: 'come back on Sunday' }
    const body = JSON.stringify({ errors: [json] })
    const answer = { status: 429, headers: { 'content-type': 'application/json' }, body }
    proxy.misbehave({ matches: ({ path }) => path.includes('/manifests/'), times: 10, does: { answer } })
    expect(await docker.fails('pull', at('known:v1'))).toContain('come back on Sunday')
  })

  test('a pull that broke off goes on by range', async () => {
    const image = buildImage('resumed', { layerSizes: [2_000_384] })
    await client.push('resumed', image, { tags: ['v1'] })
    const layer = image.blobs[1]?.digest ?? ''
    proxy.misbehave({ matches: ({ path }) => path.endsWith(layer), times: 1, does: { cutBodyAt: 700_000 } })
    await docker.run('pull --quiet', at('resumed:v1'))
    const ranges = proxy.requests.filter(({ path }) => path.endsWith(layer))
    expect(ranges.map(({ headers, status }) => [headers.range, status])).toEqual([
      [undefined, 200],
      ['bytes=700000-', 206],
    ])
    await expectManifest(client, 'resumed', 'v1', image)
  })
})
