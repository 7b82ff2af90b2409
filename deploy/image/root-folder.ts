/**
 * The root file system of one architecture as a folder on disk, in the parts that deploy/Dockerfile copies: base,
 * modules, application and data. Owners and times on disk mean nothing; layers get theirs when they are packed.
 */
import { chmod, cp, glob, lstat, mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fetchPackages, unpackPackage, type DebianMirror, type FetchedPackage } from './debian.ts'
import { readFileList, type Architecture, type DebianPackage, type FileList } from './file-list.ts'
import { describeModules, installModules, projectFolder, type Bill } from './npm.ts'

export interface RootFolderOptions {
  readonly architecture: Architecture
  /** Where the parts go. */
  readonly folder: string
  /** For what is only needed on the way; it is there, and empty. */
  readonly workFolder: string
  /** Where buildApplication put what it compiled: the same for every architecture. */
  readonly built: string
  readonly cacheFolder: string
  readonly mirror: DebianMirror
}

/** What was put in: for the bill of materials. */
export interface Contents {
  readonly modules: Bill
  readonly packages: readonly (FetchedPackage & Pick<DebianPackage, 'licence'>)[]
}

export async function writeRootFolder(options: RootFolderOptions): Promise<Contents> {
  const list = await readFileList(options.architecture)
  const base = join(options.folder, 'base')
  const packages = await writeDebian(base, list, options)
  const modules = await writeModules(list, options)
  await writeOwn(base, list)
  await writeApplication(list, options)
  await mkdir(join(options.folder, 'data'), { recursive: true })
  return { packages, modules }
}

async function writeDebian(base: string, { debian }: FileList, options: RootFolderOptions) {
  const { architecture, mirror, cacheFolder, workFolder } = options
  const names = debian.packages.map(({ name }) => name)
  const fetched = await fetchPackages({ names, release: debian.release, architecture, mirror, cacheFolder })
  const described = []
  for (const [index, wanted] of debian.packages.entries()) {
    const found = fetched[index]
    if (!found) throw new Error(`${wanted.name} was not fetched`)
    const unpacked = join(workFolder, wanted.name)
    await unpackPackage(found, unpacked)
    await copyMatching(unpacked, base, wanted.files)
    for (const [file, pattern] of Object.entries(wanted.concatenated)) {
      await write(base, file, await concatenate(unpacked, pattern))
    }
    // Where scanners look for packages of images without a dpkg.
    await write(base, `var/lib/dpkg/status.d/${wanted.name}`, found.control)
    described.push({ ...found, licence: wanted.licence })
  }
  return described
}

async function concatenate(folder: string, pattern: string): Promise<string> {
  const files = (await matching(folder, [pattern])).toSorted()
  const texts = await Promise.all(files.map((file) => readFile(join(folder, file), 'utf8')))
  return texts.map((text) => `${text.trimEnd()}\n`).join('')
}

async function writeOwn(base: string, { written, folders }: FileList): Promise<void> {
  for (const [file, content] of Object.entries(written)) await write(base, file, content)
  for (const folder of folders) await mkdir(join(base, folder), { recursive: true })
}

async function writeModules(list: FileList, options: RootFolderOptions): Promise<Bill> {
  const { architecture, folder, workFolder } = options
  const npmFolder = join(workFolder, 'npm')
  await mkdir(npmFolder)
  await installModules(npmFolder, architecture)
  const installed = join(npmFolder, 'node_modules')
  for (const [from, to] of Object.entries(list.node.files)) {
    await copy(join(installed, list.node.package, from), join(folder, 'base', to))
  }
  const { kept, dropped } = list.modules
  const modules = join(folder, 'modules/app/node_modules')
  const ofNode = [`${list.node.package}/**`]
  const wanted = await matching(installed, ['**/*', '**/.*'], dropped)
  const licences = await matching(installed, kept, ofNode)
  // Nothing of it is run by itself, whatever its package says.
  await copyFiles(installed, modules, [...wanted, ...licences], 0o644)
  return describeModules(npmFolder)
}

async function writeApplication(list: FileList, { folder, built }: RootFolderOptions): Promise<void> {
  const application = join(folder, 'application/app')
  const compiled = list.application.filter((pattern) => pattern.startsWith('dist/'))
  const others = list.application.filter((pattern) => !pattern.startsWith('dist/'))
  await copyMatching(built, application, compiled)
  await copyMatching(projectFolder, application, others)
}

/** @throws where a pattern matches nothing: what it stood for has another name by now */
async function copyMatching(from: string, to: string, patterns: readonly string[]): Promise<void> {
  for (const pattern of patterns) {
    const paths = await matching(from, [pattern])
    if (paths.length === 0) throw new Error(`deploy/image/files.yaml: ${pattern} matches nothing`)
    await copyFiles(from, to, paths)
  }
}

/** Files and symbolic links, not folders. */
async function matching(
  folder: string,
  patterns: readonly string[],
  exclude: readonly string[] = [],
): Promise<string[]> {
  const found = new Set<string>()
  for await (const path of glob(patterns, { cwd: folder, exclude })) {
    if (!(await lstat(join(folder, path))).isDirectory()) found.add(path)
  }
  return [...found]
}

async function copyFiles(from: string, to: string, paths: readonly string[], mode?: number): Promise<void> {
  for (const path of paths) await copy(join(from, path), join(to, path), mode)
}

/** Without a mode, the one that it has, without what depends on the umask of whoever unpacked it. */
async function copy(from: string, to: string, mode?: number): Promise<void> {
  await mkdir(dirname(to), { recursive: true })
  await cp(from, to, { verbatimSymlinks: true })
  const status = await lstat(to)
  if (!status.isSymbolicLink()) await chmod(to, mode ?? ((status.mode & 0o100) === 0 ? 0o644 : 0o755))
}

async function write(base: string, file: string, content: string): Promise<void> {
  const path = join(base, file)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, content)
  await chmod(path, 0o644)
}
