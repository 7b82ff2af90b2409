/** Engines that fetch layers from the bucket itself (--s3-redirect), on MinIO. */
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { buildImage } from '../../support/images.ts'
import { registryClient } from '../../support/image-transfer.ts'
import { clientFolder, clientProgram, type ClientFolder } from '../client-folder.ts'
import { startRedirectingRegistries, type RedirectingRegistries } from '../redirecting-registry.ts'
import { startContainerd, startDockerd } from './daemons.ts'
import { engineProgram } from './own-mounts.ts'

let folder: ClientFolder
let registries: RedirectingRegistries

const image = buildImage('redirected', { layerSizes: [2048, 3 * 2 ** 20] })

beforeAll(async () => {
  folder = await clientFolder('engine-redirects')
  registries = await startRedirectingRegistries()
  await registryClient(registries.named.registry).push('app', image, { tags: ['v1'] })
}, 600_000)
afterAll(async () => {
  await registries.stop()
  await folder.remove()
})

const at = (reference: string) => `${registries.named.registry}/${reference}`
const app = () => at('app:v1')

test('containerd follows to the bucket', async () => {
  const daemon = await startContainerd(folder, { binary: '/usr/bin/containerd', configVersion: 2 })
  try {
    const ctr = clientProgram(folder, '/usr/bin/ctr', { first: ['--address', daemon.socket] })
    await ctr.run('images pull --plain-http', app())
    expect(await ctr.run('images check')).toContain('complete')
  } finally {
    await daemon.stop()
  }
})

test('Docker follows to the bucket', async () => {
  const daemon = await startDockerd(folder)
  try {
    const docker = clientProgram(folder, '/usr/bin/docker', { first: ['--host', `unix://${daemon.socket}`] })
    await docker.run('pull --quiet', app())
    expect(await docker.run('inspect --format {{.Id}}', app())).toBe(image.blobs[0]?.digest)
  } finally {
    await daemon.stop()
  }
})

test('skopeo follows to the bucket, and reads the size of a blob there', async () => {
  const skopeo = await engineProgram(folder, 'skopeo', ['--insecure-policy'])
  const plain = '--src-tls-verify=false --dest-tls-verify=false'
  await skopeo.run(`copy ${plain}`, `docker://${app()}`, `dir:${folder.path}/copied`)
  await skopeo.run(`copy ${plain}`, `dir:${folder.path}/copied`, `docker://${at('app:v2')}`)
  const digest = await skopeo.run('inspect --tls-verify=false --format {{.Digest}}', `docker://${app()}`)
  expect(digest).toBe(image.digest)
})
