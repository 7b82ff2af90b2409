/**
 * One run of a collector after another, G1 to G6 of docs/GARBAGE-COLLECTION.md as a script: no ages (everything is old
 * enough at once), one collector, one round a run, images without indexes. It has no code of the server's half.
 */
import { LeaseExpired, type Driver } from '../../src/storage/driver.ts'
import { collectorRecords } from './collector-records.ts'

export interface CollectorScript {
  /** @param run its number; the run before it is done */
  collect(run: number): Promise<void>
}

const repositories = 'docker/registry/v2/repositories/'
const blobs = 'docker/registry/v2/blobs/'
const parentsFirst = [/\/_manifests\/tags\//, /\/_manifests\/revisions\//, /\/_layers\//, /\/blobs\//]

/** @param condemned what the last run that was done announced */
export function collectorScript(driver: Driver, condemned: ReadonlySet<string>): CollectorScript {
  const records = collectorRecords(driver)
  let announced = condemned

  return {
    async collect(run) {
      // G1
      await records.owner(run)
      // G2
      const { all, reachable } = await mark(driver)
      for (const name of await rescued(driver)) reachable.add(name)
      const unreachable = all.filter((key) => !reachable.has(key))
      // G3
      const round = unreachable.filter((key) => announced.has(key))
      const spared = new Set<string>()
      if (round.length > 0) {
        await records.sweeping(run, 1, round)
        // G4
        for (const name of await rescued(driver)) spared.add(name)
        // G5
        const doomed = round.filter((key) => !spared.has(key))
        await sweep(driver, run, doomed)
        await records.swept(run, 1)
      }
      // G6
      const left: string[] = []
      for (const key of unreachable) {
        if (!spared.has(key) && (await driver.stat(key)).object) left.push(key)
      }
      if (left.length > 0) await records.condemned(run, left)
      await records.end(run, 'done', left.length > 0 ? ['0'] : [])
      announced = new Set(left)
      await dropRescues(driver, run - 1)
    },
  }
}

/** The storage as one listing shows it; then, tag by tag, what they keep. */
async function mark(driver: Driver): Promise<{ all: string[]; reachable: Set<string> }> {
  const all: string[] = []
  for (const prefix of [repositories, blobs]) for await (const { key } of driver.list(prefix)) all.push(key)
  const reachable = new Set(all.filter((key) => key.includes('/_manifests/tags/')))
  for (const tag of all.filter((key) => key.endsWith('/current/link'))) {
    for (const key of await keptBy(driver, tag)) reachable.add(key)
  }
  return { all, reachable }
}

/** One whose revision is gone keeps nothing. */
async function keptBy(driver: Driver, tag: string): Promise<string[]> {
  const digest = (await driver.read(tag))?.toString() ?? ''
  const folder = tag.slice(0, tag.indexOf('/_manifests/'))
  const link = revisionLink(folder, digest)
  if (!(await driver.stat(link)).object) return []
  const bytes = (await driver.read(data(digest)))?.toString() ?? '{"layers":[]}'
  const { config, layers } = JSON.parse(bytes) as Manifest
  const below = [...(config ? [config] : []), ...layers]
  return [link, data(digest), ...below.flatMap((blob) => [layerLink(folder, blob.digest), data(blob.digest)])]
}

interface Manifest {
  readonly config?: { readonly digest: string }
  readonly layers: readonly { readonly digest: string }[]
}

const path = (digest: string) => digest.replace(':', '/')
const data = (digest: string) => `${blobs}sha256/${digest.slice(7, 9)}/${digest.slice(7)}/data`
const layerLink = (folder: string, digest: string) => `${folder}/_layers/${path(digest)}/link`
const revisionLink = (folder: string, digest: string) => `${folder}/_manifests/revisions/${path(digest)}/link`

async function rescued(driver: Driver): Promise<string[]> {
  const names: string[] = []
  for await (const { key } of driver.list('stowage/gc/rescues/')) {
    const rescue = JSON.parse((await driver.read(key))?.toString() ?? '{"names":[]}') as { names: string[] }
    names.push(...rescue.names)
  }
  return names
}

/** A delete that comes too late for the round has no effect, and neither has what would have followed it. */
async function sweep(driver: Driver, run: number, keys: readonly string[]): Promise<void> {
  const sweeping = `stowage/gc/runs/${String(run).padStart(10, '0')}/sweeping-0000000001`
  const { object } = await driver.stat(sweeping)
  const lease = { date: object?.modified ?? 0, durationMs: 60_000 }
  try {
    for (const kind of parentsFirst) {
      for (const key of keys) if (kind.test(`/${key}`)) await driver.remove([key], { lease })
    }
  } catch (error) {
    if (!(error instanceof LeaseExpired)) throw error
  }
}

async function dropRescues(driver: Driver, below: number): Promise<void> {
  const old: string[] = []
  for await (const { key } of driver.list('stowage/gc/rescues/')) {
    if (Number(key.split('/')[3]) < below) old.push(key)
  }
  await driver.remove(old)
}
