/** helm's charts in the real server: pushed, pulled, and rendered from where they are. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { digestOf } from '../support/images.ts'
import { registryClient, type RegistryClient } from '../support/image-transfer.ts'
import { startStowage, type Stowage } from '../support/stowage.ts'
import { tool } from '../support/tools.ts'
import { clientFolder, clientProgram, type ClientFolder, type ClientProgram } from './client-folder.ts'
import { startRegistryProxy, type RegistryProxy } from './registry-proxy.ts'

let folder: ClientFolder
let helm: ClientProgram
let server: Stowage
let proxy: RegistryProxy
let client: RegistryClient

beforeAll(async () => {
  folder = await clientFolder('helm')
  helm = clientProgram(folder, await tool('helm'))
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

const oci = (reference: string) => `oci://${proxy.registry}/${reference}`

const configMap = `apiVersion: v1
kind: ConfigMap
metadata: { name: {{ .Release.Name }} }
data: { greeting: {{ .Values.greeting | quote }} }
`

/** Packages a chart; gives the archive's name. */
async function packageChart(name: string, version: string): Promise<string> {
  await mkdir(join(folder.path, name, 'templates'), { recursive: true })
  await folder.file(`${name}/Chart.yaml`, `apiVersion: v2\nname: ${name}\nversion: ${version}\n`)
  await folder.file(`${name}/values.yaml`, 'greeting: hello\n')
  await folder.file(`${name}/templates/configmap.yaml`, configMap)
  await helm.run('package', name)
  return `${name}-${version}.tgz`
}

test('a chart is pushed, and what is pulled is that chart', async () => {
  const archive = await packageChart('greeter', '1.2.3')
  await helm.run('push --plain-http', archive, oci('charts'))
  expect(await client.listTags('charts/greeter')).toEqual(['1.2.3'])
  await mkdir(join(folder.path, 'pulled'))
  await helm.run('pull --plain-http --destination pulled --version 1.2.3', oci('charts/greeter'))
  const pulled = await readFile(join(folder.path, 'pulled', archive))
  expect(digestOf(pulled)).toBe(digestOf(await readFile(join(folder.path, archive))))
})

test('a chart travels as streaming PUTs with a Content-Length, to relative Locations', async () => {
  const archive = await packageChart('streamed', '0.1.0')
  await helm.run('push --plain-http', archive, oci('charts'))
  const puts = proxy.requests.filter(({ method, path }) => method === 'PUT' && path.includes('/uploads/'))
  const archiveBytes = (await readFile(join(folder.path, archive))).length
  expect(puts.map(({ headers }) => headers['content-length'])).toContain(`${archiveBytes}`)
  for (const { answerHeaders, method } of proxy.requests) {
    if (method === 'POST') expect(answerHeaders.location).toMatch(/^\/v2\/charts\/streamed\/blobs\/uploads\//)
  }
  expect(puts.map(({ status }) => status)).toEqual(puts.map(() => 201))
})

test('the newest version that fits is found among the tags', async () => {
  for (const version of ['1.0.0', '1.9.1', '1.10.0', '2.0.0-rc.1', '2.0.0+build.7']) {
    await helm.run('push --plain-http', await packageChart('versions', version), oci('charts'))
  }
  // A tag holds no plus: helm writes an underscore, and reads it as a plus again.
  expect(await client.listTags('charts/versions')).toContain('2.0.0_build.7')
  const show = async (constraint: string) =>
    /^version: (.*)$/m.exec(
      await helm.run('show chart --plain-http --version', constraint, oci('charts/versions')),
    )?.[1]
  expect(await show('^1.0.0')).toBe('1.10.0')
  expect(await show('~1.9')).toBe('1.9.1')
  expect(await show('>=2.0.0')).toBe('2.0.0+build.7')
  expect(await show('2.0.0-rc.1')).toBe('2.0.0-rc.1')
})

test('a chart is rendered from the registry, by version and by digest', async () => {
  await helm.run('push --plain-http', await packageChart('rendered', '1.0.0'), oci('charts'))
  const byVersion = await helm.run(
    'template here --plain-http --version 1.0.0 --set greeting=hi',
    oci('charts/rendered'),
  )
  expect(byVersion).toMatch(/name: here[^]*greeting: "hi"/)
  const manifest = await client.request('charts/rendered/manifests/1.0.0', { method: 'HEAD' })
  const digest = manifest.headers.get('Docker-Content-Digest') ?? ''
  expect(await helm.run('template here --plain-http', oci(`charts/rendered@${digest}`))).toContain('hello')
})

test('a chart that depends on another finds it in the registry', async () => {
  await helm.run('push --plain-http', await packageChart('base', '1.0.0'), oci('charts'))
  await packageChart('parent', '1.0.0')
  const dependency = `{ name: base, version: ^1.0.0, repository: "${oci('charts')}" }`
  const chart = `apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies: [${dependency}]\n`
  await folder.file('parent/Chart.yaml', chart)
  await helm.run('dependency update --plain-http', 'parent')
  expect(await helm.run('template here', 'parent')).toContain('parent/charts/base/templates/configmap.yaml')
})

test('a chart or a version that is not here is reported as not found', async () => {
  await helm.run('push --plain-http', await packageChart('known', '1.0.0'), oci('charts'))
  expect(await helm.fails('pull --plain-http --version 9.9.9', oci('charts/known'))).toContain('not found')
  expect(await helm.fails('pull --plain-http', oci('charts/unknown'))).toMatch(/not found|404/)
})
