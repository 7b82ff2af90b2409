/** How crane, oras, helm and cosign log in to a registry from which anybody may pull, and to one that is closed. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { dockerArchive } from '../support/image-archives.ts'
import { buildImage } from '../support/images.ts'
import type { Stowage } from '../support/stowage.ts'
import { tool, type ToolName } from '../support/tools.ts'
import { clientFolder, clientProgram, type ClientFolder, type ClientProgram } from './client-folder.ts'
import { password, startRegistryWithUsers, user } from './registry-with-users.ts'

let folder: ClientFolder
let open: Stowage
let closed: Stowage

beforeAll(async () => {
  folder = await clientFolder('credentials')
  for (const name of ['crane', 'oras', 'helm', 'cosign'] as const) await tool(name)
  open = await startRegistryWithUsers(folder, 'pull')
  closed = await startRegistryWithUsers(folder, 'none')
}, 600_000)
afterAll(async () => {
  await open.stop()
  await closed.stop()
  await folder.remove()
})

/** A program that logs in on its own: it has a home for itself. */
async function program(name: ToolName): Promise<{ client: ClientProgram; login: ClientProgram }> {
  const home = join(folder.path, `home-of-${name}`)
  await mkdir(home, { recursive: true })
  const env = {
    HOME: home,
    HELM_REGISTRY_CONFIG: join(home, 'helm.json'),
    XDG_CONFIG_HOME: join(home, '.config'),
    COSIGN_PASSWORD: '',
  }
  const path = await tool(name)
  return {
    client: clientProgram(folder, path, { env }),
    login: clientProgram(folder, path, { env, input: password }),
  }
}

const image = buildImage('with users')
const archive = () => folder.file('image.tar', dockerArchive(image, 'app:v1'))

describe('crane', () => {
  test('pushes after its login, and pulls without one where that is open to anybody', async () => {
    const { client, login } = await program('crane')
    for (const { registry } of [open, closed]) {
      expect(await client.fails('push', await archive(), `${registry}/crane:v1`)).toMatch(/unauthorized/i)
      await login.run(`auth login --username ${user} --password-stdin`, registry)
      await client.run('push', await archive(), `${registry}/crane:v1`)
      await client.run('validate --remote', `${registry}/crane:v1`)
      await client.run('auth logout', registry)
    }
    await client.run('validate --remote', `${open.registry}/crane:v1`)
    expect(await client.fails('digest', `${closed.registry}/crane:v1`)).toMatch(/401|UNAUTHORIZED/)
  })
})

describe('oras', () => {
  test('checks the password at its login, pushes then, and pulls without where that is open', async () => {
    const { client, login } = await program('oras')
    await folder.file('artifact.txt', 'artifact\n')
    const wrong = await client.fails(`login --plain-http --username ${user} --password wrong`, open.registry)
    expect(wrong).toMatch(/unauthorized/i)
    for (const { registry } of [open, closed]) {
      expect(await client.fails('push --plain-http', `${registry}/oras:v1`, 'artifact.txt')).toMatch(
        /unauthorized|credential/i,
      )
      await login.run(`login --plain-http --username ${user} --password-stdin`, registry)
      await client.run('push --plain-http', `${registry}/oras:v1`, 'artifact.txt')
      await client.run('pull --plain-http --output pulled', `${registry}/oras:v1`)
      await client.run('logout', registry)
    }
    await client.run('pull --plain-http --output again', `${open.registry}/oras:v1`)
    await client.fails('pull --plain-http --output closed', `${closed.registry}/oras:v1`)
  })
})

describe('helm', () => {
  test('checks the password at its login, pushes then, and pulls without where that is open', async () => {
    const { client, login } = await program('helm')
    await mkdir(join(folder.path, 'chart'))
    await folder.file('chart/Chart.yaml', 'apiVersion: v2\nname: chart\nversion: 1.0.0\n')
    await client.run('package', 'chart')
    const wrong = `registry login --plain-http --username ${user} --password wrong`
    expect(await client.fails(wrong, open.registry)).toMatch(/401|unauthorized/i)
    for (const { registry } of [open, closed]) {
      const charts = `oci://${registry}/charts`
      expect(await client.fails('push --plain-http', 'chart-1.0.0.tgz', charts)).toMatch(
        /401|unauthorized|credential/i,
      )
      await login.run(`registry login --plain-http --username ${user} --password-stdin`, registry)
      await client.run('push --plain-http', 'chart-1.0.0.tgz', charts)
      await client.run('pull --plain-http --version 1.0.0', `${charts}/chart`)
      await client.run('registry logout', registry)
    }
    await client.run('pull --plain-http --version 1.0.0', `oci://${open.registry}/charts/chart`)
    await client.fails('pull --plain-http --version 1.0.0', `oci://${closed.registry}/charts/chart`)
  })
})

describe('cosign', () => {
  test('signs after its login, and verifies without one where that is open to anybody', async () => {
    const { client } = await program('cosign')
    const { client: crane } = await program('crane')
    await client.run('generate-key-pair')
    const at = `${open.registry}/cosign:v1`
    await crane.run(`auth login --username ${user} --password`, password, open.registry)
    await crane.run('push', await archive(), at)
    const signed = `${open.registry}/cosign@${await crane.run('digest', at)}`
    const sign = 'sign --key cosign.key --use-signing-config=false --tlog-upload=false --yes'
    expect(await client.fails(sign, signed)).toMatch(/401|UNAUTHORIZED/)
    await client.run(`login --username ${user} --password`, password, open.registry)
    await client.run(sign, signed)
    await client.run('verify --key cosign.pub --insecure-ignore-tlog=true', at)
  })
})
