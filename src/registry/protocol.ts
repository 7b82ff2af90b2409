/**
 * The server's half of docs/GARBAGE-COLLECTION.md: how a key gets a new reason to live (R1 to R5), and how a read
 * asks for something back. With no collector nothing is condemned, and a write costs two HEADs beside its own.
 */
import type { Clock } from '../clock.ts'
import { OciError } from '../oci/errors.ts'
import { LeaseExpired, type Driver, type WriteLease } from '../storage/driver.ts'
import { waitForRounds, writeRescue } from './rescues.ts'
import type { Records, RunRecords } from './run-records.ts'
import { maxAttempts, roundPollMs, roundWaitMs, settleMs, type SafetyTimes } from './safety.ts'

export interface Protocol {
  readonly driver: Driver
  readonly clock: Clock
  readonly records: RunRecords
  readonly times: SafetyTimes
}

/** A write that gives keys a new reason to live. Each step may run several times. */
export interface Push {
  /** Every key that the write makes or depends on, present or not. */
  names(): Promise<ReadonlySet<string>>
  /**
   * R3: whether everything it depends on exists, asked of storage. False where something is present that `names`
   * did not hold: back to R1.
   * @throws OciError MANIFEST_BLOB_UNKNOWN
   */
  check(names: ReadonlySet<string>): Promise<boolean>
  /** R4: data, links, referrer link; the tag last; every write with this lease. */
  store(lease: WriteLease): Promise<void>
  /** A manifest's 201 promises that all it refers to stays; a blob's only that it need not be sent again. */
  readonly promises: 'manifest' | 'blob'
}

/**
 * R1 to R5, in order. No other code may reorder them.
 * @throws OciError MANIFEST_BLOB_UNKNOWN, or UNAVAILABLE where collections kept coming in between
 */
export async function pushUnderProtocol(protocol: Protocol, push: Push): Promise<void> {
  const { clock, records, times } = protocol
  const waitUntil = clock.monotonic() + roundWaitMs
  for (let attempt = 0; attempt < maxAttempts; attempt++) {
    const names = await push.names()
    // R1 Read the records afresh, and test every name in the condemned set.
    const began = await records.fresh()
    // R2 Ask for what is condemned back, before anyone looks whether it is still there.
    if (isCondemned(began, names) && !(await rescue(protocol, began, names, waitUntil))) continue
    // R3 Storage, not a cache, says that everything it depends on exists.
    if (!(await push.check(names))) continue
    // R4 Write, the tag last. A write of a server that slept is refused by the storage.
    const lease = { generation: began.generation, date: began.date, durationMs: times.writeLeaseMs }
    try {
      await push.store(lease)
    } catch (error) {
      if (error instanceof LeaseExpired) continue
      throw error
    }
    // R5 Only if no run has ended meanwhile was what R1 saw the whole truth.
    if (push.promises === 'blob') {
      if (clock.monotonic() - began.readAt < times.writeLeaseMs) return
    } else {
      const ended = await records.fresh()
      if (ended.generation === began.generation) return
    }
  }
  throw new OciError('UNAVAILABLE', {
    message: 'garbage collections ended faster than this push could be written; try again',
    headers: { 'Retry-After': '5' },
  })
}

/**
 * A read on whose answer a client relies: blob HEAD, manifest HEAD and GET. What is condemned is asked back before
 * storage is asked; where nothing is condemned that costs nothing.
 */
export async function readUnderProtocol<T>(
  protocol: Protocol,
  names: () => Promise<ReadonlySet<string>>,
  ask: () => Promise<T>,
): Promise<T> {
  const { clock, records } = protocol
  const waitUntil = clock.monotonic() + roundWaitMs
  for (let attempt = 0; attempt < maxAttempts; attempt++) {
    const began = await records.recent()
    if (began.condemned.size > 0) {
      const all = await names()
      if (isCondemned(began, all) && !(await rescue(protocol, began, all, waitUntil))) continue
    }
    const answer = await ask()
    // Where that took long the records are read before the answer leaves.
    if (records.isRecent(began) || (await records.fresh()).generation === began.generation) return answer
  }
  throw new OciError('UNAVAILABLE', { headers: { 'Retry-After': '1' } })
}

function isCondemned(records: Records, names: ReadonlySet<string>): boolean {
  return records.condemned.size > 0 && [...names].some((name) => records.condemned.has(name))
}

/** R2. False where a run ended meanwhile: back to R1. */
async function rescue(
  protocol: Protocol,
  began: Records,
  names: ReadonlySet<string>,
  waitUntil: number,
): Promise<boolean> {
  const { driver, clock, records } = protocol
  await writeRescue(driver, began.generation, names)
  const again = await records.fresh()
  if (again.generation !== began.generation) return false
  await waitForRounds({ driver, clock, generation: began.generation, names, waitUntil })
  return true
}

/** Waits until a write that was not answered cannot take effect any more, by the storage's own clock. */
export async function untilOver({ driver, clock }: Protocol, key: string, lease: WriteLease): Promise<void> {
  const end = lease.date + lease.durationMs + settleMs
  while ((await driver.stat(key)).date <= end) await clock.sleep(roundPollMs)
}
