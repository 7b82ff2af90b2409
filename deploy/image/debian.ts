/**
 * Debian packages for any architecture, fetched by apt without touching what this machine's own apt knows: settings,
 * lists and packages are in a folder of ours. apt checks the signature of the release's index against Debian's keys,
 * and every list and package against that index.
 */
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Architecture } from './file-list.ts'
import { runCommand } from './command.ts'

/** Where Debian's packages come from: URLs such as this machine's apt has them, without `dists/`. */
export interface DebianMirror {
  readonly main: string
  readonly security: string
  /** A file with the keys that sign Debian's releases. */
  readonly keyring: string
}

export interface FetchedPackage {
  readonly name: string
  readonly version: string
  readonly source: string
  readonly maintainer: string
  readonly sha256: string
  /** What dpkg would record of it. */
  readonly control: string
  /** The .deb file. */
  readonly path: string
}

/**
 * The mirror that this machine's apt uses, known by the end of its URLs, whatever release it is of.
 * @throws where it uses none, which is where it is not Debian's apt
 */
export async function mirrorOfThisMachine(): Promise<Pick<DebianMirror, 'main' | 'security'>> {
  const uris = await runCommand('apt-get', ['--print-uris', 'update'])
  const find = (folder: string) => new RegExp(`'(\\S+/${folder})/dists/[^/]+/InRelease'`).exec(uris)?.[1]
  const main = find('debian')
  if (main === undefined)
    throw new Error('apt-get of this machine has no mirror of Debian: give --debian-mirror')
  return { main, security: find('debian-security') ?? `${main}-security` }
}

export interface FetchOptions {
  readonly names: readonly string[]
  readonly architecture: Architecture
  readonly release: string
  readonly mirror: DebianMirror
  /** Made where there is none; what is in it saves the next fetch. */
  readonly cacheFolder: string
}

/** The newest version of each package in the release and its security updates, in the order of `names`. */
export async function fetchPackages(options: FetchOptions): Promise<FetchedPackage[]> {
  const folder = join(options.cacheFolder, `debian-${options.release}-${options.architecture}`)
  const packages = join(folder, 'packages')
  const apt = await preparedApt(folder, options)
  await apt(folder, 'update')
  // Asked for elsewhere than where the packages are: apt names only those that it would have to fetch.
  const listing = await apt(folder, 'download', '--print-uris', ...options.names)
  const listed = listing.matchAll(/^'.+' (\S+) \d+ SHA256:([0-9a-f]{64})$/gm)
  const sha256ByFile = new Map([...listed].map(([, file = '', sha256 = '']) => [file, sha256]))
  for (const file of await readdir(packages)) if (!sha256ByFile.has(file)) await rm(join(packages, file))
  await apt(packages, 'download', ...options.names)
  const fetched = await Promise.all(
    [...sha256ByFile].map(([file, sha256]) => describe(join(packages, file), sha256)),
  )
  return options.names.map((name) => {
    const found = fetched.find((one) => one.name === name)
    if (!found) throw new Error(`apt-get fetched no ${name} for ${options.architecture}`)
    return found
  })
}

/** apt-get on settings of our own, in a folder of packages; one at a time, for apt does not wait for its lists. */
async function preparedApt(folder: string, { release, mirror, architecture }: FetchOptions) {
  for (const name of ['lists/partial', 'archives/partial', 'etc/preferences.d', 'parts', 'packages']) {
    await mkdir(join(folder, name), { recursive: true })
  }
  const source = (uri: string, suite: string) =>
    `Types: deb\nURIs: ${uri}\nSuites: ${suite}\nComponents: main\n` +
    `Architectures: ${architecture}\nSigned-By: ${mirror.keyring}\n`
  await writeFile(join(folder, 'status'), '')
  await writeFile(
    join(folder, 'etc/debian.sources'),
    [source(mirror.main, release), source(mirror.security, `${release}-security`)].join('\n'),
  )
  const config = join(folder, 'apt.conf')
  await writeFile(config, (await transportSettings()) + aptSettings(folder, architecture))
  const env = { APT_CONFIG: config }
  return async (cwd: string, ...args: string[]) =>
    runCommand('flock', [join(folder, 'lock'), 'apt-get', '-q', ...args], { cwd, env })
}

function aptSettings(folder: string, architecture: Architecture): string {
  return `
Dir "${folder}";
Dir::State "${folder}";
Dir::State::status "${folder}/status";
Dir::Cache "${folder}";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc "${folder}/etc";
Dir::Etc::parts "${folder}/parts";
Dir::Etc::sourcelist "${folder}/etc/debian.sources";
Dir::Etc::sourceparts "${folder}/parts";
APT::Architecture "${architecture}";
APT::Architectures { "${architecture}"; };
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
`
}

/** How this machine reaches mirrors (proxies, retries), and whether it lets an old index pass: its owner's to say. */
async function transportSettings(): Promise<string> {
  const settings = await runCommand('apt-config', ['dump', 'Acquire'])
  return settings.replace(
    /^(?!Acquire::(https?|Retries|ForceIPv[46]|Check-Valid-Until|Check-Date)\b).*\n/gm,
    '',
  )
}

async function describe(path: string, sha256: string): Promise<FetchedPackage> {
  const control = await runCommand('dpkg-deb', ['--field', path])
  const field = (name: string) => new RegExp(`^${name}: (.+)$`, 'm').exec(control)?.[1]
  const name = field('Package') ?? ''
  return {
    name,
    version: field('Version') ?? '',
    source: field('Source')?.replace(/ \(.*/, '') ?? name,
    maintainer: field('Maintainer') ?? '',
    sha256,
    control,
    path,
  }
}

export async function unpackPackage({ path }: FetchedPackage, folder: string): Promise<void> {
  await runCommand('dpkg-deb', ['--extract', path, folder])
}
