/** Builds the image without a container engine: `npm run image -- --help`. */
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { billOfMaterials } from './bill-of-materials.ts'
import { runCommand } from './command.ts'
import { mirrorOfThisMachine, type DebianMirror } from './debian.ts'
import { readDockerfile } from './dockerfile.ts'
import { architectures, readFileList, type Architecture } from './file-list.ts'
import { addBill, addImage, addIndex, blobsFolder, writeArchive, type Descriptor } from './layout.ts'
import { projectFolder } from './npm.ts'
import { writeRootFolder } from './root-folder.ts'

const usage = `npm run image -- [OPTIONS]

Builds the container image of deploy/Dockerfile without a container engine, and without root: an OCI archive with one
index of all platforms, and beside it a bill of materials (CycloneDX) for each platform.

  --output FILE          the archive; default stowage.oci.tar
  --context FOLDER       no archive: only the root file systems, as the build context for deploy/Dockerfile
  --platform LIST        default linux/amd64,linux/arm64
  --name NAME            what the image is called in the archive; default localhost/stowage:VERSION
  --debian-mirror URL            default: the mirror that apt of this machine uses
  --debian-security-mirror URL   likewise
  --debian-keyring FILE          default /usr/share/keyrings/debian-archive-keyring.gpg
  --help

It needs apt-get, dpkg-deb and flock, as on Debian (elsewhere the package debian-archive-keyring, and the mirrors), npm,
and the network: npm fetches what package-lock.json pins, and apt, with settings and lists of its own, what
deploy/image/files.yaml names, for each architecture. apt's files are kept in ~/.cache/stowage/image.

The same commit, with the same packages in Debian, gives the same digests. Times in the image are SOURCE_DATE_EPOCH (in
seconds), or when the commit was made.
`

interface Plan {
  readonly output: string
  readonly context: string | undefined
  readonly platforms: readonly Architecture[]
  readonly name: string
  readonly mirror: DebianMirror
  readonly version: string
  readonly revision: string
  readonly created: Date
}

async function main(args: readonly string[]): Promise<void> {
  const options = readOptions(args)
  if (options.help) {
    process.stdout.write(usage)
    return
  }
  // Nothing that is made here is more private than the image.
  process.umask(0o022)
  const plan = await makePlan(options)
  const work = await mkdtemp(join(tmpdir(), 'stowage-image-'))
  try {
    await (plan.context === undefined ? buildArchive(plan, work) : writeContext(plan, plan.context, work))
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

function readOptions(args: readonly string[]) {
  const text = { type: 'string' } as const
  return parseArgs({
    args: [...args],
    options: {
      output: { ...text, default: 'stowage.oci.tar' },
      context: text,
      platform: { ...text, default: architectures.map((name) => `linux/${name}`).join(',') },
      name: text,
      'debian-mirror': text,
      'debian-security-mirror': text,
      'debian-keyring': { ...text, default: '/usr/share/keyrings/debian-archive-keyring.gpg' },
      help: { type: 'boolean', default: false },
    },
  }).values
}

async function makePlan(options: ReturnType<typeof readOptions>): Promise<Plan> {
  const { version } = JSON.parse(await readFile(join(projectFolder, 'package.json'), 'utf8')) as {
    version: string
  }
  return {
    output: resolve(options.output),
    context: options.context === undefined ? undefined : resolve(options.context),
    platforms: options.platform.split(',').map(readPlatform),
    name: options.name ?? `localhost/stowage:${version}`,
    mirror: await chooseMirror(options),
    version,
    revision: await revision(),
    created: await creationTime(),
  }
}

function readPlatform(text: string): Architecture {
  const found = architectures.find((architecture) => text === `linux/${architecture}`)
  if (!found) throw new Error(`--platform ${text}: expected linux/amd64, linux/arm64 or both, with a comma`)
  return found
}

async function chooseMirror(options: ReturnType<typeof readOptions>): Promise<DebianMirror> {
  const keyring = resolve(options['debian-keyring'])
  const main = options['debian-mirror']
  const security = options['debian-security-mirror']
  if (main !== undefined && security !== undefined) return { main, security, keyring }
  const own = await mirrorOfThisMachine()
  return { main: main ?? own.main, security: security ?? own.security, keyring }
}

async function git(...args: string[]): Promise<string | undefined> {
  const answer = await runCommand('git', ['-C', projectFolder, ...args]).catch(() => undefined)
  return answer?.trim()
}

/** The commit, and whether what is built differs from it; nothing where there is no git. */
async function revision(): Promise<string> {
  const commit = await git('rev-parse', 'HEAD')
  if (commit === undefined) return ''
  return (await git('status', '--porcelain', '--untracked-files=no')) ? `${commit}-modified` : commit
}

async function creationTime(): Promise<Date> {
  const seconds = process.env['SOURCE_DATE_EPOCH'] || (await git('log', '-1', '--format=%ct'))
  if (!seconds || !/^\d{1,11}$/.test(seconds)) throw new Error('set SOURCE_DATE_EPOCH: seconds since 1970')
  return new Date(Number(seconds) * 1000)
}

/** Root file systems, and what is in them, for each platform at once. */
async function writeContext(plan: Plan, context: string, work: string) {
  const cacheFolder = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'stowage', 'image')
  return forEach(plan.platforms, async (architecture) => {
    const folder = join(context, architecture)
    // Files of an earlier build would be in this one, too.
    await rm(folder, { recursive: true, force: true })
    const workFolder = join(work, `${architecture}-work`)
    await mkdir(workFolder, { recursive: true })
    const options = { architecture, folder, workFolder, cacheFolder, mirror: plan.mirror }
    const contents = await writeRootFolder(options)
    return { architecture, contents }
  })
}

/** All at once. Where one fails, the others have ended too by the time that it is thrown: nobody writes any more. */
async function forEach<T, U>(items: readonly T[], act: (item: T) => Promise<U>): Promise<U[]> {
  const outcomes = items.map(act)
  await Promise.allSettled(outcomes)
  return Promise.all(outcomes)
}

async function buildArchive(plan: Plan, work: string): Promise<void> {
  const context = join(work, 'context')
  const layout = join(work, 'layout')
  await mkdir(blobsFolder(layout), { recursive: true })
  await mkdir(dirname(plan.output), { recursive: true })
  const dockerfile = await readFile(join(projectFolder, 'deploy/Dockerfile'), 'utf8')
  const { version, revision, created } = plan
  const labels = { VERSION: version, REVISION: revision, CREATED: created.toISOString() }
  const roots = await writeContext(plan, context, work)
  const built = await forEach(roots, async ({ architecture, contents }) => {
    const image = await addImage(layout, {
      plan: readDockerfile(dockerfile, { ...labels, TARGETARCH: architecture }),
      architecture,
      context,
      created,
    })
    const { release } = (await readFileList(architecture)).debian
    const bill = billOfMaterials({ ...contents, architecture, version, created, release })
    await writeFile(billFile(plan.output, architecture), bill)
    return { architecture, image, bill: await addBill(layout, bill, image) }
  })
  const entries = [...built.map(({ image }) => image), ...built.map(({ bill }) => bill)]
  const index = await addIndex(layout, entries, { 'org.opencontainers.image.version': version }, plan.name)
  await writeArchive(layout, plan.output, created)
  await report(plan, index, built)
}

/** stowage.oci.tar: stowage.linux-amd64.cdx.json */
function billFile(output: string, architecture: Architecture): string {
  return `${output.replace(/(\.oci)?\.tar$/, '')}.linux-${architecture}.cdx.json`
}

async function report(
  { output, name }: Plan,
  index: Descriptor,
  built: readonly { readonly architecture: Architecture; readonly image: Descriptor }[],
): Promise<void> {
  const mebibytes = ((await stat(output)).size / 2 ** 20).toFixed(1)
  console.log(`${output}: ${name}, ${mebibytes} MiB`)
  console.log(`${''.padEnd(14)}${index.digest}`)
  for (const { architecture, image } of built) {
    console.log(`linux/${architecture.padEnd(8)}${image.digest}   ${billFile(output, architecture)}`)
  }
}

await main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})
