import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { StorageUnavailable, type Driver } from '../storage/driver.ts'
import { condemnedSet, nothingCondemned, type CondemnedSet } from './condemned.ts'
import { decodeJson } from './json.ts'
import { runRecordKey, runsFolder } from './layout.ts'
import { recordsMaxAgeMs, recordsPollMs } from './safety.ts'
import { shareReads } from './shared-reads.ts'

/** What the runs of the collector say (docs/GARBAGE-COLLECTION.md, "Words"). */
export interface Records {
  /** The highest run whose `end` says done; 0: none yet. */
  readonly generation: number
  /** What that run announced. */
  readonly condemned: CondemnedSet
  /** The storage's own time of the first answer of this read, in ms. */
  readonly date: number
  /** When this read began, by the monotonic clock, in ms. */
  readonly readAt: number
}

/** How a server follows the runs: each read asks only for what comes after what it knows. */
export interface RunRecords {
  /** Records from a read that begins after this call. One HEAD where nothing is new. */
  fresh(): Promise<Records>
  /** Records that are young enough for an answer that leaves now; usually without a read. */
  recent(): Records | Promise<Records>
  /** Whether `records` are the newest known, and still young enough. */
  isRecent(records: Records): boolean
  /** The newest known, however old. */
  newest(): Records
  close(): void
}

export const endSchema = z.object({
  outcome: z.enum(['done', 'deposed']),
  /** The shards of the condemned set; one that is not named is empty. */
  shards: z.array(z.string().regex(/^[0-9a-z]+$/)).default([]),
})
export type RunEnd = z.infer<typeof endSchema>

/** A run whose owner is known: its end is looked for, or, once that is known, the owner of the next. */
interface Position {
  readonly run: number
  readonly hasEnded: boolean
}

export interface RunRecordsOptions {
  readonly driver: Driver
  readonly clock: Clock
  /** Told when a poll in the background fails; a request that needs the records reads them itself, and fails aloud. */
  readonly onPollError: (error: unknown) => void
}

export async function openRunRecords({ driver, clock, onPollError }: RunRecordsOptions): Promise<RunRecords> {
  let { position, generation: highestDone } = await findPosition(driver)
  let loaded = { generation: 0, condemned: nothingCondemned }
  let newest: Records | undefined

  const read = async (): Promise<Records> => {
    const readAt = clock.monotonic()
    let date: number | undefined
    for (;;) {
      const { run, hasEnded } = position
      const stat = await driver.stat(hasEnded ? runRecordKey(run + 1, 'owner') : runRecordKey(run, 'end'))
      date ??= stat.date
      if (!stat.object) break
      if (!hasEnded && (await readEnd(driver, run)).outcome === 'done') highestDone = run
      position = hasEnded ? { run: run + 1, hasEnded: false } : { run, hasEnded: true }
    }
    if (loaded.generation !== highestDone) {
      loaded = { generation: highestDone, condemned: await loadCondemned(driver, highestDone) }
    }
    newest = { ...loaded, date, readAt }
    return newest
  }
  const shared = shareReads<'records', Records>(read)
  const fresh = () => shared('records')
  const isRecent = (records: Records) =>
    records.generation === newest?.generation && clock.monotonic() - records.readAt < recordsMaxAgeMs

  const first = await fresh()
  const polling = new AbortController()
  void poll()
  async function poll() {
    while (!polling.signal.aborted) {
      try {
        await clock.sleep(recordsPollMs, polling.signal)
        await fresh()
      } catch (error) {
        if (!polling.signal.aborted) onPollError(error)
      }
    }
  }
  return {
    fresh,
    recent: () => (newest && isRecent(newest) ? newest : fresh()),
    isRecent,
    newest: () => newest ?? first,
    close: () => polling.abort(),
  }
}

/** `owner` and `end` are never deleted, so the highest folder is the highest run; only that one can be without an end. */
async function findPosition(driver: Driver): Promise<{ position: Position; generation: number }> {
  let run = 0
  for await (const name of driver.listNames(runsFolder)) run = Math.max(run, Number.parseInt(name, 10) || 0)
  const hasEnded = run === 0 || (await findEnd(driver, run)) !== undefined
  let generation = run
  while (generation > 0 && (await findEnd(driver, generation))?.outcome !== 'done') generation--
  return { position: { run, hasEnded }, generation }
}

async function findEnd(driver: Driver, run: number): Promise<RunEnd | undefined> {
  const key = runRecordKey(run, 'end')
  const bytes = await driver.read(key)
  return bytes && decodeJson(key, bytes, endSchema)
}

async function readEnd(driver: Driver, run: number): Promise<RunEnd> {
  const end = await findEnd(driver, run)
  if (end) return end
  throw new StorageUnavailable(
    `the end of run ${run} was there and is gone: the bucket does not keep what it acknowledged`,
  )
}

/** A shard that is missing means "read again", never "not condemned": until then nobody gets an answer. */
async function loadCondemned(driver: Driver, run: number): Promise<CondemnedSet> {
  const end = await readEnd(driver, run)
  const shards: Buffer[] = []
  for (const shard of end.shards) {
    const key = runRecordKey(run, `condemned-${shard}`)
    const bytes = await driver.read(key, { maxBytes: 1024 ** 3 })
    if (!bytes) throw new StorageUnavailable(`${key} is missing: reading the records again`)
    shards.push(bytes)
  }
  return condemnedSet(shards)
}
