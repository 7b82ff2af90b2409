import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { OciError } from '../oci/errors.ts'
import { PreconditionFailed, type Driver, type Listed } from '../storage/driver.ts'
import { decodeJson, encodeJson } from './json.ts'
import { parseRoundKey, rescueKey, runFolder, runsFolder } from './layout.ts'
import { roundPollMs } from './safety.ts'

/** Asks for `names` back from the runs that begin at this generation. Written once; the same again is no error. */
export async function writeRescue(
  driver: Driver,
  generation: number,
  names: ReadonlySet<string>,
): Promise<void> {
  const sorted = [...names].toSorted()
  // An id by digest alone would stand for fewer names than the next writer needs.
  const id = createHash('sha256').update(sorted.join('\n')).digest('hex')
  try {
    await driver.write(rescueKey(generation, id), encodeJson({ names: sorted }), { ifAbsent: true })
  } catch (error) {
    if (!(error instanceof PreconditionFailed)) throw error
  }
}

/** A round of deletes (`sweeping-<r>`): what it may delete, and how long after its LastModified it is open. */
export const sweepingSchema = z.object({ keys: z.array(z.string()), leaseMs: z.number().positive() })

/** A subject and all its referrers are one round, however many they are. */
const maxRoundBytes = 256 * 1024 * 1024

export interface RoundWait {
  readonly driver: Driver
  readonly clock: Clock
  /** Every earlier run's rounds were closed before this generation was done. */
  readonly generation: number
  readonly names: ReadonlySet<string>
  /** By the monotonic clock: one request waits for 30 s in all. */
  readonly waitUntil: number
}

/**
 * Waits while an open round names one of `names`. What the round deletes is then gone, and R3 sees it.
 * @throws OciError UNAVAILABLE after 30 s
 */
export async function waitForRounds(wait: RoundWait): Promise<void> {
  while (await hasOpenRound(wait)) {
    if (wait.clock.monotonic() > wait.waitUntil) {
      throw new OciError('UNAVAILABLE', {
        message: 'what this needs is being collected right now; try again in half a minute',
        headers: { 'Retry-After': '30' },
      })
    }
    await wait.clock.sleep(roundPollMs)
  }
}

async function hasOpenRound({ driver, names, generation }: RoundWait): Promise<boolean> {
  for (const { listed, round } of await unfinishedRounds(driver, generation)) {
    const leaseMs = await leaseIfNamed(driver, listed.key, names)
    if (leaseMs === undefined) continue
    // A file system enforces no lease, and a collector may sleep just before its delete; but anyone can end a round.
    if (driver.revokeRemovals) await driver.revokeRemovals(round)
    else if (await isOpen(driver, listed, leaseMs)) return true
  }
  return false
}

/** The rounds from this generation on that do not say they are swept; all before it were closed when it was done. */
async function unfinishedRounds(
  driver: Driver,
  generation: number,
): Promise<{ listed: Listed; round: string }[]> {
  const rounds = new Map<string, Listed | undefined>()
  for await (const listed of driver.list(runsFolder, { after: runFolder(generation) })) {
    const found = parseRoundKey(listed.key)
    if (found?.record === 'swept') rounds.set(found.round, undefined)
    else if (found && !rounds.has(found.round)) rounds.set(found.round, listed)
  }
  return [...rounds].flatMap(([round, listed]) => (listed ? [{ listed, round }] : []))
}

/** How long the round is open, if it names one of `names`. */
async function leaseIfNamed(
  driver: Driver,
  key: string,
  names: ReadonlySet<string>,
): Promise<number | undefined> {
  const bytes = await driver.read(key, { maxBytes: maxRoundBytes })
  // The records of a run go 30 days after its end: such a round was closed long ago.
  if (!bytes) return undefined
  const round = decodeJson(key, bytes, sweepingSchema)
  return round.keys.some((name) => names.has(name)) ? round.leaseMs : undefined
}

/** The lease is counted by the storage's clock alone. */
async function isOpen(driver: Driver, { key, object }: Listed, leaseMs: number): Promise<boolean> {
  const { date } = await driver.stat(key)
  return date <= object.modified + leaseMs
}
