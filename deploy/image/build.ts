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
import { addBill, addImage, addIndex, blobsFolder, writeArchive } from './layout.ts'
import { buildApplication, projectFolder } from './npm.ts'
import { writeRootFolder } from './root-folder.ts'

const usage = `npm run image -- [OPTIONS]

Builds the container image of deploy/Dockerfile without a container engine, and without root: an OCI archive with one
index of all platforms, and beside it a bill of materials (CycloneDX) for each platform.

  --output FILE          the archive; default stowage.oci.tar
  --context FOLDER       keep the root file systems there: they are the build context of deploy/Dockerfile. Without
                         --output there is no archive then
  --platform LIST        default linux/amd64,linux/arm64
  --name NAME            what the image is called in the archive; default localhost/stowage:VERSION
  --revision TEXT        the commit, for the label; default what git says
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
  /** Without one there is no archive. */
  readonly output: string | undefined
  readonly context: string
  readonly platforms: readonly Architecture[]
  readonly name: string
  readonly mirror: DebianMirror
  readonly version: string
  readonly created: Date
  /** Build arguments, without the platform. */
  readonly values: Readonly<Record<string, string>>
}

async function main(args: readonly string[]): Promise<void> {
  const options = readOptions(args)
  if (options.help) {
    process.stdout.write(usage)
    return
  }
  // Nothing that is made here is more private than the image.
  process.umask(0o022)
  const work = await mkdtemp(join(tmpdir(), 'stowage-image-'))
  try {
    const plan = await makePlan(options, work)
    await writeImage(plan, work)
    if (options.context === undefined) return
    const values = Object.entries(plan.values).map(([name, value]) => `--build-arg ${name}=${value}`)
    console.log(`docker build -f deploy/Dockerfile ${values.join(' ')} ${options.context}`)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

function readOptions(args: readonly string[]) {
  const text = { type: 'string' } as const
  return parseArgs({
    args: [...args],
    options: {
      output: text,
      context: text,
      platform: { ...text, default: architectures.map((name) => `linux/${name}`).join(',') },
      name: text,
      revision: text,
      'debian-mirror': text,
      'debian-security-mirror': text,
      'debian-keyring': { ...text, default: '/usr/share/keyrings/debian-archive-keyring.gpg' },
      help: { type: 'boolean', default: false },
    },
  }).values
}

async function makePlan(options: ReturnType<typeof readOptions>, work: string): Promise<Plan> {
  const manifest = JSON.parse(await readFile(join(projectFolder, 'package.json'), 'utf8')) as {
    version: string
  }
  const { version } = manifest
  const created = await creationTime()
  const output = options.output ?? (options.context === undefined ? 'stowage.oci.tar' : undefined)
  return {
    output: output === undefined ? undefined : resolve(output),
    context: resolve(options.context ?? join(work, 'context')),
    platforms: options.platform.split(',').map(readPlatform),
    name: options.name ?? `localhost/stowage:${version}`,
    mirror: await chooseMirror(options),
    version,
    created,
    values: {
      VERSION: version,
      REVISION: options.revision ?? (await revision()),
      CREATED: created.toISOString(),
    },
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
async function writeContext({ platforms, mirror, context }: Plan, work: string) {
  const cacheFolder = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'stowage', 'image')
  const built = join(work, 'built')
  await mkdir(built)
  await buildApplication(built)
  return forEach(platforms, async (architecture) => {
    const folder = join(context, architecture)
    // Files of an earlier build would be in this one, too.
    await rm(folder, { recursive: true, force: true })
    const workFolder = join(work, architecture)
    await mkdir(workFolder)
    const contents = await writeRootFolder({ architecture, folder, workFolder, built, cacheFolder, mirror })
    return { architecture, contents }
  })
}

/** All at once. Where one fails, the others have ended too by the time that it is thrown: nobody writes any more. */
async function forEach<T, U>(items: readonly T[], act: (item: T) => Promise<U>): Promise<U[]> {
  const outcomes = items.map(act)
  await Promise.allSettled(outcomes)
  return Promise.all(outcomes)
}

async function writeImage(plan: Plan, work: string): Promise<void> {
  const { output, name, version, context, created } = plan
  const roots = await writeContext(plan, work)
  if (output === undefined) return
  await mkdir(dirname(output), { recursive: true })
  const layout = join(work, 'layout')
  await mkdir(blobsFolder(layout), { recursive: true })
  const dockerfile = await readFile(join(projectFolder, 'deploy/Dockerfile'), 'utf8')
  const built = await forEach(roots, async ({ architecture, contents }) => {
    const values = { ...plan.values, TARGETARCH: architecture }
    const image = await addImage(layout, {
      plan: readDockerfile(dockerfile, values),
      architecture,
      context,
      created,
    })
    const { release } = (await readFileList(architecture)).debian
    const bill = billOfMaterials({ ...contents, architecture, version, created, release })
    await writeFile(billFile(output, architecture), bill)
    return { architecture, image, bill: await addBill(layout, bill, image) }
  })
  const entries = [...built.map(({ image }) => image), ...built.map(({ bill }) => bill)]
  const index = await addIndex(layout, entries, { 'org.opencontainers.image.version': version }, name)
  await writeArchive(layout, output, created)
  const mebibytes = ((await stat(output)).size / 2 ** 20).toFixed(1)
  console.log(`${output}: ${name}, ${mebibytes} MiB\n${''.padEnd(14)}${index.digest}`)
  for (const { architecture, image } of built) {
    console.log(`linux/${architecture.padEnd(8)}${image.digest}   ${billFile(output, architecture)}`)
  }
}

/** stowage.oci.tar: stowage.linux-amd64.cdx.json */
function billFile(output: string, architecture: Architecture): string {
  return `${output.replace(/(\.oci)?\.tar$/, '')}.linux-${architecture}.cdx.json`
}

await main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
})
