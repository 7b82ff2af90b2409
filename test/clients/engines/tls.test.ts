/** How skopeo, buildah, containerd and Docker come to trust a registry's private authority. */
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { copyFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { dockerArchive, writeImageLayout } from '../../support/image-archives.ts'
import { buildImage } from '../../support/images.ts'
import { clientFolder, clientProgram, type ClientFolder } from '../client-folder.ts'
import { startRegistryOverTls, type RegistryOverTls } from '../registry-over-tls.ts'
import { startContainerd, startDockerd } from './daemons.ts'
import { engineProgram } from './own-mounts.ts'

let folder: ClientFolder
let server: RegistryOverTls

const image = buildImage('tls')

beforeAll(async () => {
  folder = await clientFolder('engine-tls')
  server = await startRegistryOverTls(folder)
  await mkdir(join(folder.path, 'layout'))
  await writeImageLayout(join(folder.path, 'layout'), [image])
})
afterAll(async () => {
  await server.stop()
  await folder.remove()
})

test('skopeo and buildah take a directory of certificates', async () => {
  // Of all files in it, a .crt is an authority and a .cert one's own, which wants its .key.
  const certificates = join(folder.path, 'certificates')
  await mkdir(certificates)
  await copyFile(server.authority, join(certificates, 'ca.crt'))
  const skopeo = await engineProgram(folder, 'skopeo', ['--insecure-policy'])
  const from = `oci:${join(folder.path, 'layout')}`
  const to = `docker://${server.registry}/skopeo:v1`
  expect(await skopeo.fails('copy', from, to)).toContain('certificate signed by unknown authority')
  await skopeo.run('copy --dest-cert-dir', certificates, from, to)
  await skopeo.run('inspect --cert-dir', certificates, to)

  const storage = ['--root', join(folder.path, 'storage'), '--runroot', join(folder.path, 'run')]
  const buildah = await engineProgram(folder, 'buildah', [...storage, '--storage-driver', 'vfs'])
  await buildah.run('pull --quiet --cert-dir', certificates, `${server.registry}/skopeo:v1`)
})

test('containerd reads the authority from hosts.toml', async () => {
  const daemon = await startContainerd(folder, { binary: '/usr/bin/containerd', configVersion: 2 })
  try {
    const ctr = clientProgram(folder, '/usr/bin/ctr', { first: ['--address', daemon.socket] })
    const reference = `${server.registry}/containerd:v1`
    await ctr.run('images import', await folder.file('load.tar', dockerArchive(image, reference)))
    const hosts = join(folder.path, 'hosts')
    await mkdir(join(hosts, server.registry), { recursive: true })
    const url = `https://${server.registry}`
    await folder.file(
      `hosts/${server.registry}/hosts.toml`,
      `server = "${url}"\n[host."${url}"]\ncapabilities = ["pull", "resolve", "push"]\nca = "${server.authority}"\n`,
    )
    // Without, it speaks plain HTTP to a loopback address.
    expect(await ctr.fails('images push', reference)).toContain('400 Bad Request')
    await ctr.run('images push --hosts-dir', hosts, reference)
    await ctr.run('images pull --hosts-dir', hosts, reference)
  } finally {
    await daemon.stop()
  }
})

test('Docker does not ask who signed what is on a loopback address', async () => {
  const daemon = await startDockerd(folder)
  try {
    const docker = clientProgram(folder, '/usr/bin/docker', { first: ['--host', `unix://${daemon.socket}`] })
    const reference = `${server.registry}/docker:v1`
    await docker.run('load --quiet --input', await folder.file('load.tar', dockerArchive(image, reference)))
    await docker.run('push', reference)
    await docker.run('pull --quiet', reference)
  } finally {
    await daemon.stop()
  }
})
