/** How skopeo, buildah, containerd and Docker log in to a registry from which anybody may pull, and to one that is closed. */
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { dockerArchive, writeImageLayout } from '../../support/image-archives.ts'
import { buildImage } from '../../support/images.ts'
import type { Stowage } from '../../support/stowage.ts'
import { tool } from '../../support/tools.ts'
import { clientFolder, clientProgram, type ClientFolder } from '../client-folder.ts'
import { password, startRegistryWithUsers, user } from '../registry-with-users.ts'
import { startContainerd, startDockerd, type ContainerdOptions } from './daemons.ts'
import { engineProgram } from './own-mounts.ts'

let folder: ClientFolder
let open: Stowage
let closed: Stowage

const image = buildImage('with users')

beforeAll(async () => {
  folder = await clientFolder('engine-credentials')
  open = await startRegistryWithUsers(folder, 'pull')
  closed = await startRegistryWithUsers(folder, 'none')
  await mkdir(join(folder.path, 'layout'))
  await writeImageLayout(join(folder.path, 'layout'), [image])
}, 600_000)
afterAll(async () => {
  await open.stop()
  await closed.stop()
  await folder.remove()
})

const archiveOf = (reference: string) => folder.file('load.tar', dockerArchive(image, reference))

test('skopeo checks the password at its login, pushes then, and pulls without where that is open', async () => {
  const skopeo = await engineProgram(folder, 'skopeo')
  const insecure = 'copy --insecure-policy --src-tls-verify=false --dest-tls-verify=false'
  const from = `oci:${join(folder.path, 'layout')}`
  const wrong = `login --tls-verify=false --username ${user} --password wrong`
  expect(await skopeo.fails(wrong, open.registry)).toContain('invalid username/password')
  for (const { registry } of [open, closed]) {
    expect(await skopeo.fails(insecure, from, `docker://${registry}/skopeo:v1`)).toMatch(
      /unauthorized|authentication/,
    )
    await skopeo.run(`login --tls-verify=false --username ${user} --password`, password, registry)
    await skopeo.run(insecure, from, `docker://${registry}/skopeo:v1`)
    await skopeo.run('inspect --tls-verify=false', `docker://${registry}/skopeo:v1`)
    await skopeo.run('logout', registry)
  }
  await skopeo.run('inspect --tls-verify=false', `docker://${open.registry}/skopeo:v1`)
  const inspect = 'inspect --tls-verify=false'
  expect(await skopeo.fails(inspect, `docker://${closed.registry}/skopeo:v1`)).toMatch(
    /unauthorized|authentication/,
  )
})

test('buildah pushes with the credentials of its login or of its command line', async () => {
  const storage = ['--root', join(folder.path, 'storage'), '--runroot', join(folder.path, 'run')]
  const buildah = await engineProgram(folder, 'buildah', [...storage, '--storage-driver', 'vfs'])
  const id = await buildah.run('pull --quiet', `docker-archive:${await archiveOf('built:v1')}`)
  const to = `docker://${closed.registry}/buildah:v1`
  expect(await buildah.fails('push --quiet --tls-verify=false', id, to)).toMatch(
    /unauthorized|authentication/,
  )
  await buildah.run('push --quiet --tls-verify=false --creds', `${user}:${password}`, id, to)
  await buildah.run(`login --tls-verify=false --username ${user} --password`, password, closed.registry)
  await buildah.run('push --quiet --tls-verify=false', id, to)
})

const containerds: readonly [
  name: string,
  ctr: () => Promise<string>,
  options: () => Promise<ContainerdOptions>,
][] = [
  [
    'containerd 1.6',
    async () => '/usr/bin/ctr',
    async () => ({ binary: '/usr/bin/containerd', configVersion: 2 }),
  ],
  ['containerd 2', () => tool('ctr'), async () => ({ binary: await tool('containerd'), configVersion: 3 })],
]

test.each(containerds)(
  '%s pushes with credentials, and pulls without where that is open',
  async (name, path, options) => {
    const repository = name.replaceAll(/[ .]/g, '-')
    const daemon = await startContainerd(folder, await options())
    try {
      const ctr = clientProgram(folder, await path(), { first: ['--address', daemon.socket] })
      for (const { registry } of [open, closed]) {
        const reference = `${registry}/${repository}:v1`
        await ctr.run('images import', await archiveOf(reference))
        await ctr.fails('images push --plain-http', reference)
        await ctr.run('images push --plain-http --user', `${user}:${password}`, reference)
        await ctr.run('images pull --plain-http --user', `${user}:${password}`, reference)
      }
      await ctr.run('images pull --plain-http', `${open.registry}/${repository}:v1`)
      await ctr.fails('images pull --plain-http', `${closed.registry}/${repository}:v1`)
      await ctr.fails(
        'images pull --plain-http --user',
        `${user}:wrong`,
        `${closed.registry}/${repository}:v1`,
      )
    } finally {
      await daemon.stop()
    }
  },
  60_000,
)

test('Docker 20.10 checks the password at its login, and pushes and pulls then alone', async () => {
  const daemon = await startDockerd(folder)
  try {
    const first = ['--host', `unix://${daemon.socket}`]
    const docker = clientProgram(folder, '/usr/bin/docker', { first })
    const login = clientProgram(folder, '/usr/bin/docker', { first, input: password })
    expect(await docker.fails(`login --username ${user} --password wrong`, open.registry)).toMatch(
      /unauthorized/i,
    )
    for (const { registry } of [open, closed]) {
      const reference = `${registry}/docker:v1`
      await docker.run('load --quiet --input', await archiveOf(reference))
      expect(await docker.fails('push', reference)).toMatch(/unauthorized|no basic auth credentials/)
      await login.run(`login --username ${user} --password-stdin`, registry)
      await docker.run('push', reference)
      await docker.run('rmi', reference)
      await docker.run('pull --quiet', reference)
      await docker.run('logout', registry)
      // With its own image store it asks for credentials once, where pulls are open, too.
      expect(await docker.fails('pull --quiet', reference)).toContain('no basic auth credentials')
    }
  } finally {
    await daemon.stop()
  }
}, 60_000)
