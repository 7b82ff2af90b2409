import { pMapIterable } from 'p-map'
import { tryParseRepositoryName, type RepositoryName } from '../oci/names.ts'
import type { Driver } from '../storage/driver.ts'
import { layersFolder, manifestsFolder, repositoriesFolder } from './layout.ts'
import type { Listing, Page } from './tags.ts'

export interface Repositories {
  /** A repository exists from its first blob or manifest on. */
  exists(name: RepositoryName): Promise<boolean>
  /** In ASCII order, wherever they nest. */
  list(page: Page): Promise<Listing<RepositoryName>>
}

/** How many folders are looked into ahead of the one whose turn it is. */
const listConcurrency = 32

interface Folder {
  readonly isRepository: boolean
  /** Names of the folders below. */
  readonly children: readonly string[]
}

export function repositories(driver: Driver): Repositories {
  return {
    async exists(name) {
      for (const folder of [manifestsFolder(name), layersFolder(name)]) {
        for await (const _ of driver.listNames(folder)) return true
      }
      return false
    },

    async list({ limit, last = '' }) {
      const items: RepositoryName[] = []
      for await (const path of walk('', await readFolder(''), last)) {
        const name = tryParseRepositoryName(path)
        if (!name || name <= last) continue
        if (items.length === limit) return { items, hasMore: true }
        items.push(name)
      }
      return { items, hasMore: false }
    },
  }

  /**
   * The repositories below a folder, in ASCII order of their names: `a`, `a-b`, `a/b`. A folder counts twice in that
   * order: as a repository, and, at its slash, as all that is below it. What lies before `last` is not looked into.
   */
  async function* walk(path: string, folder: Folder, last: string): AsyncGenerator<string> {
    const steps = folder.children.flatMap((child) => [child, `${child}/`]).toSorted()
    const wanted = steps.filter((step) => !isBefore(path + step, last))
    const read = new Map<string, Promise<Folder>>()
    const readOnce = (child: string) => {
      const reading = read.get(child) ?? readFolder(`${path}${child}/`)
      read.set(child, reading)
      return reading
    }
    const ahead = pMapIterable(
      wanted,
      async (step) => ({ step, below: await readOnce(step.replace('/', '')) }),
      { concurrency: listConcurrency },
    )
    for await (const { step, below } of ahead) {
      if (step.endsWith('/')) yield* walk(path + step, below, last)
      else if (below.isRepository) yield path + step
    }
  }

  async function readFolder(path: string): Promise<Folder> {
    const names: string[] = []
    for await (const name of driver.listNames(repositoriesFolder + path)) names.push(name)
    return {
      isRepository: names.includes('_manifests/') || names.includes('_layers/'),
      children: names
        .filter((name) => name.endsWith('/') && !name.startsWith('_'))
        .map((name) => name.slice(0, -1)),
    }
  }
}

/** Whether a step and all below it sorts up to `last`. */
function isBefore(step: string, last: string): boolean {
  return step.endsWith('/') ? step < last && !last.startsWith(step) : step <= last
}
