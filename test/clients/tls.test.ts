/** How crane, oras, helm and cosign come to trust a registry's private authority. */
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { dockerArchive } from '../support/image-archives.ts'
import { buildImage } from '../support/images.ts'
import { tool } from '../support/tools.ts'
import { clientFolder, clientProgram, type ClientFolder } from './client-folder.ts'
import { startRegistryOverTls, type RegistryOverTls } from './registry-over-tls.ts'

let folder: ClientFolder
let server: RegistryOverTls

beforeAll(async () => {
  folder = await clientFolder('tls')
  for (const name of ['crane', 'oras', 'helm', 'cosign'] as const) await tool(name)
  server = await startRegistryOverTls(folder)
}, 600_000)
afterAll(async () => {
  await server.stop()
  await folder.remove()
})

const distrust = /certificate signed by unknown authority|failed to verify certificate/
const archive = () => folder.file('image.tar', dockerArchive(buildImage('tls'), 'app:v1'))

test('crane and cosign take SSL_CERT_FILE, and cosign an option', async () => {
  const env = { SSL_CERT_FILE: server.authority, SSL_CERT_DIR: undefined }
  const crane = clientProgram(folder, await tool('crane'), { env })
  const image = `${server.registry}/crane:v1`
  await crane.run('push', await archive(), image)
  await crane.run('validate --remote', image)
  const strange = clientProgram(folder, await tool('crane'), { env: { SSL_CERT_FILE: '/dev/null' } })
  expect(await strange.fails('digest', image)).toMatch(distrust)

  const cosign = clientProgram(folder, await tool('cosign'), { env: { COSIGN_PASSWORD: '' } })
  await cosign.run('generate-key-pair')
  const signed = `${server.registry}/crane@${await crane.run('digest', image)}`
  const sign = 'sign --key cosign.key --use-signing-config=false --tlog-upload=false --yes'
  await cosign.run(`${sign} --registry-cacert`, server.authority, signed)
})

test('oras takes --ca-file', async () => {
  const oras = clientProgram(folder, await tool('oras'))
  await folder.file('artifact.txt', 'artifact\n')
  await oras.run('push --ca-file', server.authority, `${server.registry}/oras:v1`, 'artifact.txt')
  await oras.run('pull --output pulled --ca-file', server.authority, `${server.registry}/oras:v1`)
  expect(await oras.fails('pull --output pulled', `${server.registry}/oras:v1`)).toMatch(distrust)
})

test('helm takes --ca-file', async () => {
  const helm = clientProgram(folder, await tool('helm'))
  await mkdir(join(folder.path, 'chart'))
  await folder.file('chart/Chart.yaml', 'apiVersion: v2\nname: chart\nversion: 1.0.0\n')
  await helm.run('package', 'chart')
  const charts = `oci://${server.registry}/charts`
  await helm.run('push --ca-file', server.authority, 'chart-1.0.0.tgz', charts)
  await helm.run('pull --version 1.0.0 --ca-file', server.authority, `${charts}/chart`)
  expect(await helm.fails('pull --version 1.0.0', `${charts}/chart`)).toMatch(distrust)
})
