/** oras, and by it the library that helm, notation and flux push and pull with, against the real server. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { writeImageLayout } from '../support/image-archives.ts'
import { blobOf, buildArtifact, buildImage, buildIndex, linuxArm64, seededBytes } from '../support/images.ts'
import { expectManifest, registryClient, type RegistryClient } from '../support/image-transfer.ts'
import { startStowage, type Stowage } from '../support/stowage.ts'
import { tool } from '../support/tools.ts'
import { clientFolder, clientProgram, type ClientFolder, type ClientProgram } from './client-folder.ts'
import { startRegistryProxy, type RegistryProxy } from './registry-proxy.ts'

let folder: ClientFolder
let oras: ClientProgram
/** Ours, on oras' library: it goes on where a blob broke off. */
let orasResume: ClientProgram
let server: Stowage
let proxy: RegistryProxy
let client: RegistryClient

beforeAll(async () => {
  folder = await clientFolder('oras')
  oras = clientProgram(folder, await tool('oras'))
  orasResume = clientProgram(folder, await tool('oras-resume'))
  server = await startStowage(['--storage', 'memory'])
  client = registryClient(server.registry)
}, 600_000)
afterAll(async () => {
  await server.stop()
  await folder.remove()
})

// Every test has repositories of its own.
beforeEach(async () => {
  proxy = await startRegistryProxy(server.registry)
})
afterEach(() => proxy.stop())

const at = (reference: string) => `${proxy.registry}/${reference}`

interface Pushed {
  readonly digest: string
  readonly mediaType: string
}

const parse = <T>(text: string) => JSON.parse(text) as T

describe('artifacts', () => {
  test('are pushed with files, and pulled with them', async () => {
    const content = seededBytes('artifact', 3 * 2 ** 20)
    await folder.file('model.bin', content)
    await folder.file('notes.txt', 'notes\n')
    const pushed = parse<Pushed>(
      await oras.run(
        'push --plain-http --format json --artifact-type application/vnd.example.model --annotation a=b',
        at('models/one:v1'),
        'model.bin',
        'notes.txt:text/plain',
      ),
    )
    expect(await oras.run('resolve --plain-http', at('models/one:v1'))).toBe(pushed.digest)
    const manifest = parse<{ artifactType: string; layers: { size: number }[] }>(
      await oras.run('manifest fetch --plain-http', at('models/one:v1')),
    )
    expect(manifest).toMatchObject({
      artifactType: 'application/vnd.example.model',
      annotations: { a: 'b' },
      layers: [{ size: content.length }, { size: 6 }],
    })
    await oras.run('pull --plain-http --output pulled', at(`models/one@${pushed.digest}`))
    expect((await readFile(join(folder.path, 'pulled/model.bin'))).equals(content)).toBe(true)
    expect(await readFile(join(folder.path, 'pulled/notes.txt'), 'utf8')).toBe('notes\n')
  })

  test('travel as one streaming PUT with a Content-Length, to a relative Location', async () => {
    await folder.file('stream.bin', seededBytes('stream', 1_000_003))
    await oras.run('push --plain-http', at('streamed:v1'), 'stream.bin')
    const puts = proxy.requests.filter(
      ({ method, path }) => method === 'PUT' && path.includes('/blobs/uploads/'),
    )
    expect(puts.map(({ bodyBytes }) => bodyBytes)).toContain(1_000_003)
    for (const { headers, bodyBytes, status } of puts) {
      expect({ length: headers['content-length'], status }).toEqual({ length: `${bodyBytes}`, status: 201 })
    }
    const posts = proxy.requests.filter(({ method }) => method === 'POST')
    for (const { answerHeaders } of posts) expect(answerHeaders.location).toMatch(/^\/v2\/streamed\/blobs\//)
    expect(proxy.log(/^PATCH/)).toEqual([])
  })

  test('with a blob that is known already leave it out', async () => {
    await folder.file('same.bin', seededBytes('same', 100_000))
    await oras.run('push --plain-http', at('first:v1'), 'same.bin')
    proxy.forget()
    await oras.run('push --plain-http --annotation second=one', at('first:v2'), 'same.bin')
    expect(proxy.log(/^(POST|PUT) .*blobs/)).toEqual([])
    expect(await oras.run('repo tags --plain-http', at('first'))).toBe('v1\nv2')
  })

  test('are copied with what is attached to them, mounted where both repositories are here', async () => {
    const image = buildImage('copied', { layerSizes: [100_352] })
    const sbom = buildArtifact('sbom', { subject: image })
    await client.push('here', image, { tags: ['v1'] })
    await client.push('here', sbom)
    await oras.run('cp --recursive --from-plain-http --to-plain-http', at('here:v1'), at('there:v1'))
    await expectManifest(client, 'there', 'v1', image)
    await expectManifest(client, 'there', sbom.digest, sbom)
    expect(proxy.log(/^POST .*mount=.* 201$/)).toHaveLength(image.blobs.length + sbom.blobs.length)
    expect(proxy.log(/^PUT .*blobs/)).toEqual([])
  })

  test('and indexes come from an OCI layout and go back into one', async () => {
    const index = buildIndex([buildImage('amd'), buildImage('arm', { platform: linuxArm64 })])
    await mkdir(join(folder.path, 'layout'), { recursive: true })
    await writeImageLayout(join(folder.path, 'layout'), [index])
    await oras.run('cp --from-oci-layout --to-plain-http', `layout@${index.digest}`, at('multi:v1'))
    await expectManifest(client, 'multi', 'v1', index)
    await oras.run('cp --from-plain-http --to-oci-layout', at('multi:v1'), 'back:v1')
    const back = await readFile(join(folder.path, 'back/blobs', index.digest.replace(':', '/')))
    expect(back.equals(index.bytes)).toBe(true)
  })
})

describe('referrers', () => {
  const image = buildImage('subject')

  interface Discovered {
    readonly referrers?: readonly {
      readonly digest: string
      readonly artifactType: string
      readonly referrers?: readonly unknown[]
    }[]
  }
  const discover = async (...args: string[]) =>
    parse<Discovered>(await oras.run('discover --plain-http --format json', ...args)).referrers ?? []

  const attach = async (repository: string, type: string, name: string) => {
    await folder.file(name, name)
    const command = `attach --plain-http --format json --artifact-type ${type}`
    return parse<Pushed>(await oras.run(command, at(`${repository}:v1`), name))
  }

  test('are attached without a fallback tag, since the answer says OCI-Subject', async () => {
    await client.push('attached', image, { tags: ['v1'] })
    const { digest } = await attach('attached', 'application/vnd.example.sbom', 'sbom.json')
    const put = proxy.requests.find(({ method, path }) => method === 'PUT' && path.includes('/manifests/'))
    expect(put?.answerHeaders['oci-subject']).toBe(image.digest)
    expect(await client.listTags('attached')).toEqual(['v1'])
    expect(await client.listReferrers('attached', image.digest)).toMatchObject([{ digest }])
  })

  test('are discovered, all of them or those of a type, and trees of them', async () => {
    await client.push('discovered', image, { tags: ['v1'] })
    const sbom = await attach('discovered', 'application/vnd.example.sbom', 'sbom.json')
    const signature = await attach('discovered', 'application/vnd.example.signature', 'image.sig')
    const found = await discover(at('discovered:v1'))
    expect(found.map(({ digest }) => digest).sort()).toEqual([sbom.digest, signature.digest].sort())

    await folder.file('sbom.sig', 'of the sbom')
    const attachSignature = 'attach --plain-http --artifact-type application/vnd.example.signature'
    await oras.run(attachSignature, at(`discovered@${sbom.digest}`), 'sbom.sig')
    const tree = await discover(at('discovered:v1'))
    const ofSbom = tree.find(({ digest }) => digest === sbom.digest)
    expect(ofSbom?.referrers).toMatchObject([{ artifactType: 'application/vnd.example.signature' }])

    proxy.forget()
    const filtered = await discover('--artifact-type', 'application/vnd.example.sbom', at('discovered:v1'))
    expect(filtered.map(({ digest }) => digest)).toEqual([sbom.digest])
    const asked = proxy.requests.find(({ path }) => path.includes('artifactType='))
    expect(asked?.answerHeaders['oci-filters-applied']).toBe('artifactType')
  })

  test('are asked for by the digest of zeros before a manifest with a subject is deleted', async () => {
    await client.push('zeros', image, { tags: ['v1'] })
    const { digest } = await attach('zeros', 'application/vnd.example.sbom', 'sbom.json')
    proxy.forget()
    await oras.run('manifest delete --plain-http --force', at(`zeros@${digest}`))
    expect(proxy.log(/referrers/)).toEqual([`GET /v2/zeros/referrers/sha256:${'0'.repeat(64)} 200`])
    expect(await discover(at('zeros:v1'))).toEqual([])
  })
})

describe('blobs and manifests', () => {
  test('are pushed, fetched and deleted one by one', async () => {
    const content = seededBytes('blob', 200_001)
    const { digest } = blobOf(content, 'application/octet-stream')
    await oras.run('blob push --plain-http', at('bare'), await folder.file('blob.bin', content))
    await oras.run('blob fetch --plain-http --output fetched.bin', at(`bare@${digest}`))
    expect((await readFile(join(folder.path, 'fetched.bin'))).equals(content)).toBe(true)
    const descriptor = await oras.run('blob fetch --plain-http --descriptor', at(`bare@${digest}`))
    expect(parse(descriptor)).toMatchObject({ digest, size: content.length })

    await oras.run('blob delete --plain-http --force', at(`bare@${digest}`))
    expect(await oras.fails('blob fetch --plain-http --descriptor', at(`bare@${digest}`))).toContain(
      'not found',
    )
  })

  test('are listed by repository, and named by several tags', async () => {
    await client.push('team/app', buildImage('tagged'), { tags: ['v1'] })
    await client.push('other', buildImage('other'), { tags: ['v1'] })
    await oras.run('tag --plain-http', at('team/app:v1'), 'v2', 'latest')
    expect(await oras.run('repo tags --plain-http', at('team/app'))).toBe('latest\nv1\nv2')
    expect(await oras.run('repo ls --plain-http', proxy.registry)).toMatch(/^other$[^]*^team\/app$/m)
    expect(await oras.fails('manifest fetch --plain-http', at('team/app:v3'))).toContain('not found')
  })
})

describe('trouble on the way', () => {
  test('a Warning is shown to the user', async () => {
    await client.push('old', buildImage('old'), { tags: ['v1'] })
    const addHeaders = { Warning: '299 - "this registry moves on Sunday"' }
    proxy.misbehave({ matches: () => true, times: Infinity, does: { addHeaders } })
    const { stderr } = await oras.result('resolve --plain-http', at('old:v1'))
    expect(stderr).toContain('this registry moves on Sunday')
  })

  test('an answer that says 503 is asked for again', async () => {
    await client.push('busy', buildImage('busy'), { tags: ['v1'] })
    const answer = { status: 503, headers: { 'retry-after': '1' } }
    proxy.misbehave({ matches: ({ path }) => path.includes('/manifests/'), times: 1, does: { answer } })
    await oras.run('pull --plain-http --output busy', at('busy:v1'))
    expect(proxy.log(/manifests\/v1/)).toEqual([
      'GET /v2/busy/manifests/v1 503',
      'GET /v2/busy/manifests/v1 200',
    ])
  })

  const breakOffBlob = () => {
    proxy.misbehave({
      matches: ({ method, path }) => method === 'GET' && path.includes('/blobs/'),
      times: 1,
      does: { cutBodyAt: 100_000 },
    })
  }

  test('a blob that broke off is fetched anew by the next call of its command line', async () => {
    const content = seededBytes('begun anew', 300_000)
    const { digest } = blobOf(content, 'application/octet-stream')
    await oras.run('blob push --plain-http', at('bare'), await folder.file('anew.bin', content))
    breakOffBlob()
    const fetchBlob = ['blob fetch --plain-http --output fetched-anew.bin', at(`bare@${digest}`)] as const
    expect(await oras.fails(...fetchBlob)).toContain('unexpected EOF')
    await oras.run(...fetchBlob)
    expect((await readFile(join(folder.path, 'fetched-anew.bin'))).equals(content)).toBe(true)
  })

  test('a blob that broke off is resumed by range in a program that is built on its library', async () => {
    const content = seededBytes('resumed', 300_000)
    const blob = blobOf(content, 'application/octet-stream')
    await client.pushBlob('resumed', blob)
    breakOffBlob()
    const printed = await orasResume.run(at('resumed'), blob.digest)
    const [, start] = /^went on at (\d+)\n/.exec(printed) ?? []
    expect(printed).toBe(`went on at ${start}\n${blob.digest}`)
    expect(Number(start)).toBeGreaterThan(0)
    const path = `/v2/resumed/blobs/${blob.digest}`
    expect(proxy.log(/^GET/)).toEqual([`GET ${path} 200`, `GET ${path} 206`])
    expect(proxy.requests.at(-1)?.headers.range).toBe(`bytes=${start}-299999`)
  })
})
