/** buildah of Debian, which builds and pushes as podman does, with the same libraries. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buildImage, buildIndex, linuxArm64 } from '../../support/images.ts'
import { expectManifest, registryClient, type RegistryClient } from '../../support/image-transfer.ts'
import { startStowage, type Stowage } from '../../support/stowage.ts'
import { clientFolder, type ClientFolder, type ClientProgram } from '../client-folder.ts'
import { startRegistryProxy, type RegistryProxy } from '../registry-proxy.ts'
import { engineProgram } from './own-mounts.ts'

let folder: ClientFolder
let buildah: ClientProgram
let server: Stowage
let proxy: RegistryProxy
let client: RegistryClient

beforeAll(async () => {
  folder = await clientFolder('buildah')
  const storage = ['--root', join(folder.path, 'storage'), '--runroot', join(folder.path, 'run')]
  buildah = await engineProgram(folder, 'buildah', [...storage, '--storage-driver', 'vfs'])
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

const at = (reference: string) => `${proxy.registry}/${reference}`

/** A folder with a Dockerfile and a file to copy. */
async function context(name: string, dockerfile: string): Promise<string> {
  await mkdir(join(folder.path, name))
  await folder.file(`${name}/Dockerfile`, dockerfile)
  await folder.file(`${name}/content.txt`, `content of ${name}\n`)
  return join(folder.path, name)
}

test('builds an image from scratch, pushes it, and pulls it again', async () => {
  const scratch = await context('scratch', 'FROM scratch\nCOPY content.txt /\nLABEL made=here\n')
  await buildah.run('build --quiet --tag', at('built:v1'), scratch)
  await buildah.run('push --quiet --tls-verify=false', at('built:v1'))
  await buildah.run('rmi', at('built:v1'))
  await buildah.run('pull --quiet --tls-verify=false', at('built:v1'))

  const container = await buildah.run('from --tls-verify=false', at('built:v1'))
  await buildah.run('copy --from', at('built:v1'), container, '/content.txt', '/copied.txt')
  const inspected = JSON.parse(await buildah.run('inspect', container)) as object
  expect(inspected).toMatchObject({ OCIv1: { config: { Labels: { made: 'here' } } } })
  await buildah.run('rm', container)
})

test('builds on an image of the registry, and pushes only what is new', async () => {
  await client.push('base', buildImage('base', { layerSizes: [300_032] }), { tags: ['v1'] })
  const onBase = await context('on-base', `FROM ${at('base:v1')}\nCOPY content.txt /\n`)
  await buildah.run('build --quiet --tls-verify=false --tag', at('base:v2'), onBase)
  proxy.forget()
  await buildah.run('push --quiet --tls-verify=false', at('base:v2'))
  // The layer of the base is here: what is pushed is the other one, and the config.
  expect(proxy.log(/^PATCH/)).toHaveLength(2)
  const manifest = (await (await client.request('base/manifests/v2')).json()) as { layers: unknown[] }
  expect(manifest.layers).toHaveLength(2)
})

test('pulls an image as it is: what it writes to a folder has the same bytes', async () => {
  const image = buildImage('same', { layerSizes: [100_352, 2048] })
  await client.push('same', image, { tags: ['v1'] })
  const id = await buildah.run('pull --quiet --tls-verify=false', at('same:v1'))
  expect(`sha256:${id}`).toBe(image.blobs[0]?.digest)
  await buildah.run('push --quiet', id, `dir:${join(folder.path, 'written')}`)
  const config = await readFile(join(folder.path, 'written', id))
  expect(config.equals(image.blobs[0]?.bytes ?? Buffer.alloc(0))).toBe(true)
})

test('makes a manifest list, and pushes it with all its images', async () => {
  const images = [buildImage('list amd'), buildImage('list arm', { platform: linuxArm64 })]
  for (const image of images) await client.push('list', image)
  await buildah.run('manifest create', 'together')
  for (const { digest } of images) {
    await buildah.run('manifest add --tls-verify=false', 'together', `docker://${at(`list@${digest}`)}`)
  }
  await buildah.run('manifest push --all --tls-verify=false', 'together', `docker://${at('pushed:v1')}`)
  const index = (await (await client.request('pushed/manifests/v1')).json()) as {
    manifests: { digest: string }[]
  }
  expect(index.manifests.map(({ digest }) => digest).sort()).toEqual(
    images.map(({ digest }) => digest).sort(),
  )
  for (const image of images) await expectManifest(client, 'pushed', image.digest, image)
})

test('takes from an index the image of its own platform', async () => {
  const arm = buildImage('index arm', { platform: linuxArm64 })
  const index = buildIndex([buildImage('index amd'), arm])
  await client.push('platforms', index, { tags: ['v1'] })
  const id = await buildah.run('pull --quiet --tls-verify=false --arch arm64', at('platforms:v1'))
  expect(`sha256:${id}`).toBe(arm.blobs[0]?.digest)
})

test('says what is not here', async () => {
  await client.push('known', buildImage('known'), { tags: ['v1'] })
  const pull = 'pull --quiet --tls-verify=false'
  expect(await buildah.fails(pull, at('known:v2'))).toContain('manifest unknown')
})
