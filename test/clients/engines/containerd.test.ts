/** containerd, Debian's 1.6 and a containerd 2, each with its own ctr: what nodes of Kubernetes pull with. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { dockerArchive } from '../../support/image-archives.ts'
import { buildImage, buildIndex, linuxArm64, type TestManifest } from '../../support/images.ts'
import { expectManifest, registryClient, type RegistryClient } from '../../support/image-transfer.ts'
import { start } from '../../support/processes.ts'
import { startStowage, type Stowage } from '../../support/stowage.ts'
import { tool } from '../../support/tools.ts'
import { clientFolder, clientProgram, type ClientFolder, type ClientProgram } from '../client-folder.ts'
import { startRegistryProxy, type RegistryProxy } from '../registry-proxy.ts'
import { startContainerd, type ContainerdOptions, type Daemon } from './daemons.ts'

interface Version {
  readonly name: string
  readonly ctr: () => Promise<string>
  readonly containerd: () => Promise<ContainerdOptions>
  readonly fetchesInParts: boolean
}

const versions: readonly Version[] = [
  {
    name: 'containerd 1.6',
    ctr: async () => '/usr/bin/ctr',
    containerd: async () => ({ binary: '/usr/bin/containerd', configVersion: 2 }),
    fetchesInParts: false,
  },
  {
    name: 'containerd 2',
    ctr: () => tool('ctr'),
    containerd: async () => ({
      binary: await tool('containerd'),
      configVersion: 3,
      // Off by default: from this size on, layers are fetched in several parts at once.
      plugins: `[plugins.'io.containerd.transfer.v1.local']\nconcurrent_layer_fetch_buffer = 1048576`,
    }),
    fetchesInParts: true,
  },
]

let folder: ClientFolder
let server: Stowage
let client: RegistryClient
let proxy: RegistryProxy

beforeAll(async () => {
  folder = await clientFolder('containerd')
  server = await startStowage(['--storage', 'memory'])
  client = registryClient(server.registry)
}, 600_000)
afterAll(async () => {
  await server.stop()
  await folder.remove()
})

beforeEach(async () => {
  proxy = await startRegistryProxy(server.registry)
})
afterEach(() => proxy.stop())

const at = (reference: string) => `${proxy.registry}/${reference}`

describe.each(versions)('$name', (version) => {
  let daemon: Daemon
  let ctr: ClientProgram
  // Blobs that one version pulled or pushed are new to the other.
  const seed = (what: string) => `${version.name} ${what}`
  const repository = (what: string) => `${version.name.replaceAll(/[ .]/g, '-')}/${what}`

  beforeAll(async () => {
    daemon = await startContainerd(folder, await version.containerd())
    ctr = clientProgram(folder, await version.ctr(), { first: ['--address', daemon.socket] })
  }, 600_000)
  afterAll(() => daemon.stop())

  async function load(reference: string, image: TestManifest): Promise<void> {
    const archive = await folder.file('load.tar', dockerArchive(image, at(reference)))
    await ctr.run('images import', archive)
  }

  test('pushes an image and pulls it again', async () => {
    const name = repository('pushed')
    await load(`${name}:v1`, buildImage(seed('pushed'), { layerSizes: [2048, 300_032] }))
    await ctr.run('images push --plain-http', at(`${name}:v1`))
    await ctr.run('images rm --sync', at(`${name}:v1`))
    await ctr.run('images pull --plain-http', at(`${name}:v1`))
    expect(await ctr.run('images check')).toMatch(new RegExp(`${at(`${name}:v1`)}.*complete`))
  })

  test('asks by tag once with HEAD, and from then on by digest', async () => {
    const name = repository('pulled')
    const image = buildImage(seed('pulled'))
    await client.push(name, image, { tags: ['v1'] })
    await ctr.run('images pull --plain-http', at(`${name}:v1`))
    const [first, ...others] = proxy.requests
    expect(first).toMatchObject({
      method: 'HEAD',
      path: `/v2/${name}/manifests/v1`,
      answerHeaders: { 'docker-content-digest': image.digest, 'content-length': `${image.bytes.length}` },
    })
    const digests = [image, ...image.blobs].map(({ digest }) => digest)
    expect(new Set(others.map(({ path }) => path.split('/').at(-1)))).toEqual(new Set(digests))
    for (const { answerHeaders } of others) expect(answerHeaders).not.toHaveProperty('content-encoding')
  })

  test('takes all platforms of an index', async () => {
    const name = repository('multi')
    const arm = buildImage(seed('arm'), { platform: linuxArm64 })
    const index = buildIndex([buildImage(seed('amd')), arm])
    await client.push(name, index, { tags: ['v1'] })
    await ctr.run('content fetch --plain-http --all-platforms', at(`${name}:v1`))
    const content = await ctr.run('content ls --quiet')
    for (const { digest } of [index, arm, ...arm.blobs]) expect(content).toContain(digest)
  })

  test('reads a 404 of HEAD as missing when it pushes, and nothing else', async () => {
    const name = repository('missing')
    const image = buildImage(seed('missing'))
    await load(`${name}:v1`, image)
    const matches = ({ path }: { path: string }) => path.includes('/blobs/')
    proxy.misbehave({ matches, times: 20, does: { answer: { status: 403 } } })
    await ctr.fails('images push --plain-http', at(`${name}:v1`))
    await proxy.stop()

    proxy = await startRegistryProxy(server.registry)
    await load(`${name}:v1`, image)
    await ctr.run('images push --plain-http', at(`${name}:v1`))
    expect(proxy.log(/^HEAD .*\/blobs\/.* 404$/)).toHaveLength(image.blobs.length)
    expect(proxy.log(/^HEAD .*\/manifests\/.* 404$/)).not.toEqual([])
  })

  test('mounts the layers of an image that it pulled, and pushes where that is answered 202', async () => {
    const [from, to, late] = [repository('mount/from'), repository('mount/to'), repository('mount/late')]
    const image = buildImage(seed('mounted'), { layerSizes: [300_032] })
    await client.push(from, image, { tags: ['v1'] })
    await ctr.run('images pull --plain-http', at(`${from}:v1`))
    await ctr.run('images tag', at(`${from}:v1`), at(`${to}:v1`))
    await ctr.run('images push --plain-http', at(`${to}:v1`))
    expect(proxy.log(/^POST .*mount=.* 201$/)).toHaveLength(image.blobs.length)
    await expectManifest(client, to, 'v1', image)

    for (const each of [from, to]) {
      await client.deleteManifest(each, image.digest)
      for (const { digest } of image.blobs) await client.deleteBlob(each, digest)
    }
    proxy.forget()
    await ctr.run('images tag', at(`${from}:v1`), at(`${late}:v1`))
    await ctr.run('images push --plain-http', at(`${late}:v1`))
    expect(proxy.log(/^POST .*mount=.* 202$/)).toHaveLength(image.blobs.length)
    await expectManifest(client, late, 'v1', image)
  })

  test('says ns= to a mirror that hosts.toml names', async () => {
    const name = repository('mirrored')
    const image = buildImage(seed('mirrored'))
    await client.push(name, image, { tags: ['v1'] })
    const hosts = join(folder.path, version.name.replace(' ', '-'), 'registry.example')
    await mkdir(hosts, { recursive: true })
    const mirror = `[host."http://${proxy.registry}"]\ncapabilities = ["pull", "resolve"]\n`
    await folder.file(`${version.name.replace(' ', '-')}/registry.example/hosts.toml`, mirror)
    await ctr.run('images pull --hosts-dir', join(hosts, '..'), `registry.example/${name}:v1`)
    const spaces = proxy.requests.map(({ path }) => new URL(path, 'http://mirror').searchParams.get('ns'))
    expect(new Set(spaces)).toEqual(new Set(['registry.example']))
    for (const { status } of proxy.requests) expect([200, 206]).toContain(status)
  })

  test('fetches a large layer in parts at once, each answered 206, if it is of version 2', async () => {
    const name = repository('parts')
    const image = buildImage(seed('parts'), { layerSizes: [6 * 2 ** 20] })
    const layer = image.blobs[1]
    await client.push(name, image, { tags: ['v1'] })
    await ctr.run('images pull --plain-http', at(`${name}:v1`))
    const parts = proxy.requests.filter(
      ({ path, headers }) => path.endsWith(layer?.digest ?? '') && headers.range !== undefined,
    )
    expect(parts.length > 1).toBe(version.fetchesInParts)
    const size = layer?.bytes.length ?? 0
    for (const { status, headers, answerHeaders } of parts) {
      // It asks for the rest, and reads no more of it than its part.
      const start = /^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1]
      expect(status).toBe(206)
      expect(answerHeaders['content-range']).toBe(`bytes ${start}-${size - 1}/${size}`)
    }
  })

  test('goes on by range within a pull that broke off', async () => {
    const name = repository('broken')
    const image = buildImage(seed('broken'), { layerSizes: [3 * 2 ** 20] })
    const layer = image.blobs[1]?.digest ?? ''
    await client.push(name, image, { tags: ['v1'] })
    proxy.misbehave({ matches: ({ path }) => path.endsWith(layer), times: 1, does: { cutBodyAt: 1_500_000 } })
    await ctr.run('content fetch --plain-http', at(`${name}:v1`))
    const [, second] = proxy.requests.filter(({ path }) => path.endsWith(layer))
    expect(second?.headers.range).toMatch(/^bytes=[1-9]\d*-/)
    expect(second?.status).toBe(206)
  })

  test('goes on by range with what a pull that was killed left behind', async () => {
    const name = repository('resumed')
    const image = buildImage(seed('resumed'), { layerSizes: [3 * 2 ** 20] })
    const layer = image.blobs[1]?.digest ?? ''
    await client.push(name, image, { tags: ['v1'] })
    const matches = ({ path }: { path: string }) => path.endsWith(layer)
    proxy.misbehave({ matches, times: 1, does: { stallBodyAt: 2_000_000 } })
    const args = ['--address', daemon.socket, 'content', 'fetch', '--plain-http', at(`${name}:v1`)]
    // It writes by the mebibyte.
    const ready = /layer-sha256.* 1\.0 MiB\/3/
    const killed = await start(await version.ctr(), args, { ready, env: folder.env })
    await killed.stop(0)
    proxy.forget()

    await ctr.run('content fetch --plain-http', at(`${name}:v1`))
    const [resumed] = proxy.requests.filter(matches)
    expect(resumed?.headers.range).toMatch(/^bytes=[1-9]\d*-/)
    expect(resumed?.status).toBe(206)
  })
})
