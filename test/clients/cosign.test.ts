/** cosign with a local key and no transparency log: signatures as referrers, and as the tags of old. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { mediaTypes } from '../../src/oci/media-types.ts'
import { buildImage, buildIndex, linuxArm64, type TestManifest } from '../support/images.ts'
import { registryClient, type RegistryClient } from '../support/image-transfer.ts'
import { startStowage, type Stowage } from '../support/stowage.ts'
import { tool } from '../support/tools.ts'
import { clientFolder, clientProgram, type ClientFolder, type ClientProgram } from './client-folder.ts'
import { startRegistryProxy, type RegistryProxy } from './registry-proxy.ts'

let folder: ClientFolder
let cosign: ClientProgram
let server: Stowage
let proxy: RegistryProxy
let client: RegistryClient

beforeAll(async () => {
  folder = await clientFolder('cosign')
  cosign = clientProgram(folder, await tool('cosign'), { env: { COSIGN_PASSWORD: 'of the tests' } })
  await cosign.run('generate-key-pair')
  await folder.file('predicate.json', '{}')
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

const offline = '--use-signing-config=false --tlog-upload=false --yes'
const sign = `sign --key cosign.key ${offline}`
const attest = `attest --key cosign.key --type custom --predicate predicate.json ${offline}`
const verify = 'verify --key cosign.pub --insecure-ignore-tlog=true'
const verifyAttestation = 'verify-attestation --key cosign.pub --type custom --insecure-ignore-tlog=true'
const old = '--new-bundle-format=false'

const at = (repository: string, { digest }: TestManifest) => `${proxy.registry}/${repository}@${digest}`
const tagOf = ({ digest }: TestManifest) => digest.replace(':', '-')

describe('signatures as referrers', () => {
  const image = buildImage('new')
  beforeEach(() => client.push('new', image, { tags: ['v1'] }))

  test('are found by the index of referrers in its exact media type, and leave no tag', async () => {
    await cosign.run(sign, at('new', image))
    await cosign.run(attest, at('new', image))
    expect(await client.listReferrers('new', image.digest)).toHaveLength(2)
    expect(await client.listTags('new')).toEqual(['v1'])

    proxy.forget()
    await cosign.run(verify, at('new', image))
    await cosign.run(verifyAttestation, at('new', image))
    const asked = proxy.requests.filter(({ path }) => path.includes('/referrers/'))
    expect(asked).not.toEqual([])
    for (const { answerHeaders } of asked) {
      expect(answerHeaders['content-type']).toBe(mediaTypes.imageIndex)
    }
  })

  test('are verified for a tag, and refused for an image that nobody signed', async () => {
    await cosign.run(sign, at('new', image))
    await cosign.run(verify, `${proxy.registry}/new:v1`)
    const unsigned = buildImage('unsigned')
    await client.push('new', unsigned, { tags: ['unsigned'] })
    expect(await cosign.fails(verify, at('new', unsigned))).toContain('no signatures found')
  })

  test('are made for every image of an index', async () => {
    const index = buildIndex([buildImage('amd'), buildImage('arm', { platform: linuxArm64 })])
    await client.push('multi', index, { tags: ['v1'] })
    await cosign.run(`${sign} --recursive`, at('multi', index))
    for (const each of [index, ...index.children]) await cosign.run(verify, at('multi', each))
  })

  test('go with cosign clean', async () => {
    await client.push('cleaned', image, { tags: ['v1'] })
    await cosign.run(sign, at('cleaned', image))
    await cosign.run(`${sign} ${old}`, at('cleaned', image))
    expect(await client.listTags('cleaned')).toEqual([`${tagOf(image)}.sig`, 'v1'])
    await cosign.run('clean --force --type all', at('cleaned', image))
    expect(await client.listTags('cleaned')).toEqual(['v1'])
    expect(await client.listReferrers('cleaned', image.digest)).toEqual([])
  })
})

describe('signatures as the tags of old', () => {
  const image = buildImage('old')

  test('are pushed to .sig and .att, and verified there', async () => {
    await client.push('old', image, { tags: ['v1'] })
    await cosign.run(`${sign} ${old}`, at('old', image))
    await cosign.run(`${attest} ${old}`, at('old', image))
    expect(await client.listTags('old')).toEqual([`${tagOf(image)}.att`, `${tagOf(image)}.sig`, 'v1'])
    await cosign.run(`${verify} ${old}`, at('old', image))
    await cosign.run(`${verifyAttestation} ${old}`, at('old', image))
  })

  test('a second signature is another layer below the same tag', async () => {
    await client.push('twice', image, { tags: ['v1'] })
    await cosign.run(`${sign} ${old} --annotations by=one`, at('twice', image))
    await cosign.run(`${sign} ${old} --annotations by=two`, at('twice', image))
    const signatures = (await (await client.request(`twice/manifests/${tagOf(image)}.sig`)).json()) as {
      layers: unknown[]
    }
    expect(signatures.layers).toHaveLength(2)
    await cosign.run(`${verify} ${old} --annotations by=two`, at('twice', image))
  })
})

test('where OCI-Subject is missing on the way, the fallback tag is kept up, and read where referrers are', async () => {
  const image = buildImage('fallback')
  await client.push('fallback', image, { tags: ['v1'] })
  const isReferrers = ({ path }: { path: string }) => path.includes('/referrers/')
  proxy.misbehave({ matches: isReferrers, times: Infinity, does: { answer: { status: 404 } } })
  const removeHeader = 'oci-subject'
  proxy.misbehave({ matches: ({ method }) => method === 'PUT', times: Infinity, does: { removeHeader } })
  await cosign.run(sign, at('fallback', image))
  expect(await client.listTags('fallback')).toEqual([tagOf(image), 'v1'])
  await cosign.run(verify, at('fallback', image))

  await cosign.run(verify, `${server.registry}/fallback@${image.digest}`)
  const fallback = (await (await client.request(`fallback/manifests/${tagOf(image)}`)).json()) as {
    manifests: { digest: string }[]
  }
  const referrers = (await client.listReferrers('fallback', image.digest)) as { digest: string }[]
  expect(referrers.map(({ digest }) => digest)).toEqual(fallback.manifests.map(({ digest }) => digest))
})
