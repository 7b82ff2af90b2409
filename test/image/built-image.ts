/** The image as `npm run image` builds it, unpacked so that tests can look at all of it. */
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runOk } from '../support/processes.ts'

export const projectFolder = fileURLToPath(new URL('../..', import.meta.url))

export interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
  readonly artifactType?: string
  readonly platform?: { readonly architecture: string; readonly os: string }
}

export interface Manifest {
  readonly artifactType?: string
  readonly config: Descriptor
  readonly layers: readonly Descriptor[]
  readonly subject?: Descriptor
}

export interface ImageConfig {
  readonly created: string
  readonly architecture: string
  readonly os: string
  readonly config: {
    readonly User: string
    readonly Env: readonly string[]
    readonly Entrypoint: readonly string[]
    readonly Cmd: readonly string[]
    readonly WorkingDir: string
    readonly Volumes: object
    readonly ExposedPorts: object
    readonly Labels: Readonly<Record<string, string>>
  }
  readonly rootfs: { readonly diff_ids: readonly string[] }
}

/** What is fixed in builds of tests, so that they can be compared. */
export const revision = 'a-revision'
export const createdSeconds = 1_700_000_000

export async function buildImage(...options: string[]): Promise<void> {
  const args = ['run', '--silent', 'image', '--', '--revision', revision, ...options]
  const env = { SOURCE_DATE_EPOCH: String(createdSeconds) }
  await runOk('npm', args, { cwd: projectFolder, env, timeoutMs: 600_000 })
}

/** An OCI image layout in a folder. */
export interface Layout {
  readonly folder: string
  blobPath(digest: string): string
  readJson<T>(digest: string): Promise<T>
}

export async function unpackArchive(archive: string, folder: string): Promise<Layout> {
  await mkdir(folder)
  await runOk('tar', ['-xf', archive, '-C', folder])
  return openLayout(folder)
}

export function openLayout(folder: string): Layout {
  const blobPath = (digest: string) => join(folder, 'blobs', ...digest.split(':'))
  const readJson = async <T>(digest: string) => JSON.parse(await readFile(blobPath(digest), 'utf8')) as T
  return { folder, blobPath, readJson }
}

/** What `index.json` names, the one thing in the layout. */
export async function readTop({ folder }: Layout): Promise<Descriptor> {
  const index = JSON.parse(await readFile(join(folder, 'index.json'), 'utf8')) as { manifests: Descriptor[] }
  const [top] = index.manifests
  if (top === undefined || index.manifests.length > 1) throw new Error('a layout of one thing was expected')
  return top
}

/** The root file system that a runtime would give a container: the layers, one over the other. */
export async function unpackLayers(layout: Layout, { layers }: Manifest, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  for (const { digest } of layers) {
    await runOk('tar', ['-xpf', layout.blobPath(digest), '-C', folder, '--numeric-owner'])
  }
}
