/** The image: what `npm run image` makes of the project, looked through and run. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import {
  appendFile,
  copyFile,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  lstat,
  chown,
} from 'node:fs/promises'
import { createServer } from 'node:tls'
import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { createAuthority } from '../support/certificates.ts'
import { digestOf } from '../support/images.ts'
import { runOk, start } from '../support/processes.ts'
import { withoutSettings } from '../support/stowage.ts'
import { credentialsEnv, startMinio } from '../support/s3-servers.ts'
import { tool } from '../support/tools.ts'
import {
  buildImage,
  createdSeconds,
  openLayout,
  projectFolder,
  readTop,
  revision,
  unpackArchive,
  unpackLayers,
  type Descriptor,
  type ImageConfig,
  type Layout,
  type Manifest,
} from './built-image.ts'
import { containerRuntime, type ContainerRuntime } from './container.ts'
import { readElf } from './elf.ts'
import { readTree } from './file-tree.ts'

const architectures = ['amd64', 'arm64'] as const
type Architecture = (typeof architectures)[number]

interface BuiltImage {
  readonly descriptor: Descriptor
  readonly manifest: Manifest
  readonly config: ImageConfig
  /** Where its layers are unpacked. */
  readonly root: string
}

let folder = ''
let layout: Layout
let index: { readonly manifests: readonly Descriptor[] }
const images = {} as Record<Architecture, BuiltImage>

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stowage-image-test-'))
  const archive = join(folder, 'stowage.oci.tar')
  await buildImage('--output', archive, '--context', join(folder, 'context'))
  layout = await unpackArchive(archive, join(folder, 'layout'))
  index = await layout.readJson((await readTop(layout)).digest)
  for (const architecture of architectures) images[architecture] = await openImage(architecture)
}, 600_000)
afterAll(() => rm(folder, { recursive: true, force: true }))

async function openImage(architecture: Architecture): Promise<BuiltImage> {
  const descriptor = index.manifests.find(({ platform }) => platform?.architecture === architecture)
  if (descriptor === undefined) throw new Error(`there is no image for ${architecture}`)
  const manifest = await layout.readJson<Manifest>(descriptor.digest)
  const config = await layout.readJson<ImageConfig>(manifest.config.digest)
  const root = join(folder, architecture)
  await unpackLayers(layout, manifest, root)
  return { descriptor, manifest, config, root }
}

describe('the archive', () => {
  test('is an OCI layout of which every blob is what its name says', async () => {
    expect(JSON.parse(await readFile(join(layout.folder, 'oci-layout'), 'utf8'))).toEqual({
      imageLayoutVersion: '1.0.0',
    })
    const names = await readdir(join(layout.folder, 'blobs/sha256'))
    for (const name of names) {
      expect(digestOf(await readFile(layout.blobPath(`sha256:${name}`)))).toBe(`sha256:${name}`)
    }
    const all = await Promise.all([await readTop(layout), ...index.manifests].map(withBlobs))
    expect(new Set(all.flat())).toEqual(new Set(names.map((name) => `sha256:${name}`)))
  })

  test('is one index, of an image for each platform and a bill of materials for each image', () => {
    const { amd64, arm64 } = images
    const bill = {
      artifactType: 'application/vnd.cyclonedx+json',
      platform: { architecture: 'unknown', os: 'unknown' },
    }
    expect(index.manifests).toEqual([
      { ...amd64.descriptor, platform: { architecture: 'amd64', os: 'linux' } },
      { ...arm64.descriptor, platform: { architecture: 'arm64', os: 'linux' } },
      expect.objectContaining(bill),
      expect.objectContaining(bill),
    ])
  })

  test.each(architectures)('says of the image for %s what a container engine has to know', (architecture) => {
    const { created, os, ...rest } = images[architecture].config
    expect([created, os, rest.architecture]).toEqual(['2023-11-14T22:13:20.000Z', 'linux', architecture])
    expect(rest.config).toMatchObject({
      User: '65532:65532',
      WorkingDir: '/',
      Entrypoint: ['/usr/bin/node', '/app/bin/stowage.mjs'],
      Cmd: ['serve'],
      Volumes: { '/data': {} },
      ExposedPorts: { '5000/tcp': {} },
      Labels: { 'org.opencontainers.image.title': 'Stowage', 'org.opencontainers.image.revision': revision },
    })
  })

  test.each(architectures)(
    'takes less than 60 MiB for %s, most of it in a layer that seldom changes',
    (name) => {
      const [base = 0, ...others] = images[name].manifest.layers.map(({ size }) => size)
      const rest = others.reduce((sum, size) => sum + size, 0)
      expect(base + rest).toBeLessThan(60 * 2 ** 20)
      expect(rest).toBeLessThan(base / 5)
    },
  )

  test('has the same digests when it is built again', async () => {
    const again = join(folder, 'again.oci.tar')
    await buildImage('--output', again, '--platform', 'linux/amd64')
    const other = await unpackArchive(again, join(folder, 'again'))
    const { manifests } = await other.readJson<{ manifests: Descriptor[] }>((await readTop(other)).digest)
    expect(manifests).toEqual([index.manifests[0], index.manifests[2]])
  }, 120_000)
})

/** The digests of an entry and of what it refers to. */
async function withBlobs({ digest }: Descriptor): Promise<string[]> {
  const { config, layers = [] } = await layout.readJson<Partial<Manifest>>(digest)
  return [digest, ...[config, ...layers].flatMap((blob) => blob?.digest ?? [])]
}

describe.each(architectures)('the files for %s', (architecture) => {
  const inRoot = (path: string) => join(images[architecture].root, path)

  test('belong to root, but for /data, and nobody else may write to them', async () => {
    const files = await readTree(inRoot(''))
    const open = files.filter(({ kind, mode }) => kind !== 'link' && !['644', '755'].includes(mode))
    expect(open).toEqual([])
    expect(files.filter(({ owner }) => owner !== '0:0')).toEqual([
      { path: 'data', kind: 'folder', mode: '755', owner: '65532:65532', content: '' },
    ])
    const times = await Promise.all(files.map(({ path }) => lstat(inRoot(path))))
    expect(new Set(times.map((time) => time.mtimeMs))).toEqual(new Set([createdSeconds * 1000]))
  })

  test('are no shell and no program but Node.js and ours', async () => {
    const files = await readTree(inRoot(''))
    const programs = files.filter(
      ({ path, kind, mode }) => kind === 'file' && mode === '755' && !/\.so\b/.test(path),
    )
    expect(programs.map(({ path }) => path)).toEqual(['app/bin/stowage.mjs', 'usr/bin/node'])
  })

  test('are for this processor, and with every library that one of them needs', async () => {
    const files = (await readTree(inRoot(''))).filter(({ kind }) => kind !== 'folder')
    const names = new Set(files.map(({ path }) => basename(path)))
    const machine = { amd64: 'Advanced Micro Devices X86-64', arm64: 'AArch64' }[architecture]
    const found: string[] = []
    for (const { path, kind } of files) {
      const elf = kind === 'file' ? await readElf(inRoot(path)) : undefined
      if (elf === undefined) continue
      found.push(path)
      expect([path, elf.machine]).toEqual([path, machine])
      expect([path, elf.needed.filter((name) => !names.has(name))]).toEqual([path, []])
      if (elf.interpreter !== undefined) expect(await stat(inRoot(elf.interpreter))).toBeDefined()
    }
    expect(found).toEqual(expect.arrayContaining(['usr/bin/node', expect.stringMatching(/bcrypt.*\.node$/)]))
  })

  test('are all named in a bill of materials: modules, Node.js, and Debian packages', async () => {
    const bill = JSON.parse(
      await readFile(join(folder, `stowage.linux-${architecture}.cdx.json`), 'utf8'),
    ) as Bill
    const files = (await readTree(inRoot(''))).map(({ path }) => path)
    const packages = files.filter((path) => /node_modules\/(@[^/]+\/)?[^/@]+\/package\.json$/.test(path))
    const modules = await Promise.all(
      packages.map(async (path) => JSON.parse(await readFile(inRoot(path), 'utf8')) as Component),
    )
    const debian = files
      .filter((path) => dirname(path) === 'var/lib/dpkg/status.d')
      .map((path) => basename(path))
    const expected = [...modules.map(({ name, version }) => `${name}@${version}`), ...debian]
    const runtime = bill.components.filter(({ type }) => type === 'platform')
    const listed = bill.components.filter(({ type }) => type !== 'platform')
    expect(
      listed
        .map(({ name, version, purl }) => (purl.startsWith('pkg:deb/') ? name : `${name}@${version}`))
        .toSorted(),
    ).toEqual([...new Set(expected)].toSorted())
    expect(runtime.map(({ version }) => version)).toEqual([process.versions.node])
    expect(bill.components.filter(({ licenses = [] }) => licenses.length === 0)).toEqual([])
  })

  test('are described by that bill in the archive too, as a referrer of the image', async () => {
    const { digest, mediaType, size } = images[architecture].descriptor
    const bills = await Promise.all(
      index.manifests.slice(2).map((descriptor) => layout.readJson<Manifest>(descriptor.digest)),
    )
    const own = bills.find(({ subject }) => subject?.digest === digest)
    expect(own?.subject).toEqual({ digest, mediaType, size })
    const beside = await readFile(join(folder, `stowage.linux-${architecture}.cdx.json`))
    expect(own?.layers.map((layer) => layer.digest)).toEqual([digestOf(beside)])
  })
})

interface Component {
  readonly name: string
  readonly version: string
  readonly type: string
  readonly purl: string
  readonly licenses?: readonly object[]
}

interface Bill {
  readonly components: readonly Component[]
}

describe('a container with a read-only root, without capabilities', () => {
  let runtime: ContainerRuntime
  let data = ''

  beforeAll(async () => {
    const { root, config } = images.amd64
    runtime = containerRuntime(join(folder, 'runc'), root, config)
    data = join(folder, 'data')
    await mkdir(data)
    await chown(data, 65532, 65532)
  })
  afterAll(() => runtime.close())

  const node = async (script: string) => {
    const entrypoint = ['/usr/bin/node', '--input-type=module', '--eval', script]
    const { code, stdout, stderr } = await runtime.run({ entrypoint, command: [], mounts: { '/data': data } })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    return JSON.parse(stdout.toString()) as unknown
  }

  test('says its version', async () => {
    const { code, stdout } = await runtime.run({ command: ['--version'] })
    const { version } = JSON.parse(await readFile(join(projectFolder, 'package.json'), 'utf8')) as Component
    expect([code, stdout.toString()]).toEqual([0, `${version}\n`])
  })

  test('does not serve everybody where nobody said so', async () => {
    const { code, stderr } = await runtime.run({ mounts: { '/data': data } })
    expect(code).toBe(2)
    expect(stderr).toContain('--anonymous')
  })

  test('runs as nobody, and writes to /data alone', async () => {
    const answer = await node(`
      import { mkdirSync, rmdirSync } from 'node:fs'
      const attempt = (path) => {
        try { mkdirSync(path + '/new'); rmdirSync(path + '/new'); return 'written' } catch (error) { return error.code }
      }
      console.log(JSON.stringify([process.getuid(), process.getgid(), ...['', '/app', '/home/stowage', '/data'].map(attempt)]))`)
    expect(answer).toEqual([65532, 65532, 'EROFS', 'EROFS', 'EROFS', 'written'])
  })

  test('finds all of its modules, native ones too', async () => {
    const answer = await node(`
      import { globSync } from 'node:fs'
      import { createRequire } from 'node:module'
      const files = globSync('/app/dist/**/*.js').filter((file) => file !== '/app/dist/main.js')
      for (const file of files) await import(file)
      const { hashSync, compareSync } = createRequire('/app/package.json')('bcrypt')
      console.log(JSON.stringify([files.length, compareSync('word', hashSync('word', 4))]))`)
    expect(answer).toEqual([expect.any(Number), true])
  })

  test('holds its own image: all of it is pushed, each platform pulled, its bill found; and ends on SIGTERM', async () => {
    const command = ['serve', '--listen', '127.0.0.1:0', '--anonymous', 'full']
    const server = await runtime.start({ command, mounts: { '/data': data } }, /listening on/)
    try {
      const registry = /listening on http:\/\/(\S+:\d+)/.exec(server.output())?.[1] ?? ''
      const crane = async (...args: string[]) => (await runOk(await tool('crane'), args)).trimEnd()
      await crane('push', layout.folder, `${registry}/stowage:v1`)
      await crane('validate', '--remote', `${registry}/stowage:v1`)
      for (const architecture of architectures) {
        const pulled = join(folder, `pulled-${architecture}`)
        const platform = `--platform=linux/${architecture}`
        await crane('pull', '--format=oci', platform, `${registry}/stowage:v1`, pulled)
        const { digest } = images[architecture].descriptor
        expect((await readTop(openLayout(pulled))).digest).toBe(digest)
        const referrers = await fetch(`http://${registry}/v2/stowage/referrers/${digest}`)
        expect(((await referrers.json()) as { manifests: Descriptor[] }).manifests).toEqual([
          expect.objectContaining({ artifactType: 'application/vnd.cyclonedx+json' }),
        ])
      }
    } finally {
      expect(await server.stop()).toEqual({ code: 0, signal: null })
    }
  }, 120_000)

  test('trusts an S3 endpoint by the certificates in /etc/ssl/certs', async () => {
    const bundle = join(folder, 'bundle.crt')
    await copyFile(join(images.amd64.root, 'etc/ssl/certs/ca-certificates.crt'), bundle)
    const authority = await createAuthority()
    await appendFile(bundle, authority.certificate)
    const s3 = await startMinio()
    const tls = await startTlsFront(s3.endpoint, await authority.issue(['127.0.0.1']))
    try {
      await s3.createBucket('images')
      const endpoint = ['--s3-endpoint', `https://127.0.0.1:${tls.port}`, '--s3-path-style']
      const storage = ['--storage', 's3', '--s3-bucket', 'images', ...endpoint]
      const options = {
        command: ['serve', '--listen', '127.0.0.1:0', '--anonymous', 'full', ...storage],
        env: { ...credentialsEnv(s3), AWS_REGION: s3.region },
      }
      // It listens once it has written to the bucket, and read.
      const mounts = { '/etc/ssl/certs/ca-certificates.crt': bundle }
      const server = await runtime.start({ ...options, mounts }, /listening on/)
      expect(await server.stop()).toEqual({ code: 0, signal: null })
      const stranger = await runtime.run(options)
      expect([stranger.code, stranger.stderr]).toEqual([1, expect.stringMatching(/certificate/)])
    } finally {
      await tls.close()
      await s3.stop()
    }
  }, 120_000)

  test('knows the authorities that Debian trusts', async () => {
    const answer = await node(`
      import { getCACertificates } from 'node:tls'
      console.log(JSON.stringify(getCACertificates('system').length))`)
    expect(answer).toBeGreaterThan(100)
  })
})

/** A port that speaks TLS, and passes on what it hears. */
async function startTlsFront(
  target: string,
  { chain, key }: { readonly chain: string; readonly key: string },
) {
  const { hostname, port } = new URL(target)
  const server = createServer({ cert: chain, key }, (socket) => {
    const behind = connect(Number(port), hostname)
    socket.pipe(behind).pipe(socket)
    socket.on('error', () => behind.destroy())
    behind.on('error', () => socket.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      server.close()
      await once(server, 'close')
    },
  }
}

test('the image for arm64 serves, on an emulated processor', async () => {
  const { root } = images.arm64
  const args = ['serve', '--listen', '127.0.0.1:0', '--storage', 'memory']
  const emulated = ['-L', root, join(root, 'usr/bin/node'), join(root, 'app/bin/stowage.mjs')]
  const server = await start('qemu-aarch64-static', [...emulated, ...args], {
    env: withoutSettings,
    ready: /listening on/,
    timeoutMs: 60_000,
  })
  try {
    const url = /listening on (http:\/\/\S+:\d+)/.exec(server.output())?.[1] ?? ''
    expect((await fetch(`${url}/v2/`)).status).toBe(200)
  } finally {
    expect(await server.stop()).toEqual({ code: 0, signal: null })
  }
}, 90_000)

test('a container engine makes the same of deploy/Dockerfile: the same files, the same settings', async () => {
  const storage = join(folder, 'buildah')
  const own = ['--root', join(storage, 'root'), '--runroot', join(storage, 'run'), '--storage-driver', 'vfs']
  const buildah = (...args: string[]) => runOk('buildah', [...own, ...args], { timeoutMs: 120_000 })
  const { root, config } = images.amd64
  const values = {
    VERSION: config.config.Labels['org.opencontainers.image.version'],
    REVISION: revision,
    CREATED: config.created,
  }
  const builtWith = Object.entries(values).map(([name, value]) => `--build-arg=${name}=${value}`)
  const dockerfile = join(projectFolder, 'deploy/Dockerfile')
  const platform = '--platform=linux/amd64'
  await buildah(
    'build',
    '--isolation=chroot',
    platform,
    ...builtWith,
    '-f',
    dockerfile,
    '-t',
    'stowage',
    join(folder, 'context'),
  )
  await buildah('push', '--disable-compression', 'stowage', `oci:${join(storage, 'layout')}`)

  const theirs = openLayout(join(storage, 'layout'))
  const manifest = await theirs.readJson<Manifest>((await readTop(theirs)).digest)
  const settings = (await theirs.readJson<ImageConfig>(manifest.config.digest)).config
  const { 'io.buildah.version': _, ...labels } = settings.Labels
  expect({ ...settings, Labels: labels }).toEqual(config.config)
  await unpackLayers(theirs, manifest, join(storage, 'unpacked'))
  expect(await readTree(join(storage, 'unpacked'))).toEqual(await readTree(root))
}, 180_000)
