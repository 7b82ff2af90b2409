import assert from 'node:assert/strict'
import { createCipheriv, createHash } from 'node:crypto'
import {
  PreconditionFailed,
  type Driver,
  type Listed,
  type Range,
  type Upload,
  type WriteLease,
} from '../driver.ts'

export interface ContractCase {
  /** A sentence of behaviour. */
  readonly name: string
  run(context: ContractContext): Promise<void>
}

export interface ContractContext {
  readonly driver: Driver
  /** Another driver on the same storage: what another process would have. */
  readonly second: Driver
  /** A folder of the case's own, empty, ending with "/": every key of the case lies below it. */
  readonly prefix: string
  /** The generation whose leases the storage takes at present; 0 where no collection has ended yet. */
  readonly generation: number
  /** How a client of the storage reads a presigned URL; by default the runtime's own `fetch`. */
  readonly fetch?: typeof fetch
}

export const kibibyte = 1024
export const mebibyte = 1024 * kibibyte
const minuteMs = 60_000

/** Bytes that differ at every place a part could be lost, repeated or swapped; the same for the same arguments. */
export function patternedBytes(length: number, seed = 1): Buffer {
  const key = Buffer.alloc(16, `${seed}.`)
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length))
}

/** Of racers for one thing exactly one may win, and the others must be told so. Returns who won. */
export function winnerOf(results: readonly PromiseSettledResult<unknown>[], whyOne: string): number {
  const winners = results.flatMap((result, racer) => (result.status === 'fulfilled' ? [racer] : []))
  assert.equal(
    winners.length,
    1,
    `${winners.length} of ${results.length} racers won, and it must be one: ${whyOne}`,
  )
  for (const result of results) {
    if (result.status === 'fulfilled' || result.reason instanceof PreconditionFailed) continue
    throw new Error('a racer that lost was told something else than PreconditionFailed', {
      cause: result.reason,
    })
  }
  return winners[0] ?? 0
}

/** Compares without printing megabytes where they differ. */
export function assertSameBytes(actual: Uint8Array | undefined, expected: Uint8Array, what: string): void {
  assert.ok(actual, `${what} is absent, though it was stored`)
  assert.equal(actual.length, expected.length, `${what} has another size than was stored`)
  assert.equal(sha256(actual), sha256(expected), `${what} has other bytes than were stored`)
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** Reads a stream to its end; its chunks are copied, since a driver may reuse them. */
export async function collectStream(driver: Driver, key: string, range?: Range): Promise<Buffer | undefined> {
  const stream = await driver.stream(key, range && { range })
  if (!stream) return undefined
  const chunks: Buffer[] = []
  for await (const chunk of stream.body) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}

export async function collectListed(driver: Driver, prefix: string, after?: string): Promise<Listed[]> {
  const listed: Listed[] = []
  for await (const entry of driver.list(prefix, after === undefined ? {} : { after })) listed.push(entry)
  return listed
}

/** The keys below a prefix, each without that prefix. */
export async function collectKeys(driver: Driver, prefix: string, base = prefix): Promise<string[]> {
  return (await collectListed(driver, prefix)).map(({ key }) => key.slice(base.length))
}

export async function collectNames(driver: Driver, folder: string, after?: string): Promise<string[]> {
  const names: string[] = []
  for await (const name of driver.listNames(folder, after === undefined ? {} : { after })) names.push(name)
  return names
}

/** Fails unless every way of looking, through both drivers, finds nothing under the key. */
export async function assertInvisible(
  { driver, second }: ContractContext,
  key: string,
  what: string,
): Promise<void> {
  for (const side of [driver, second]) {
    const stat = await side.stat(key)
    assert.equal(stat.object, undefined, `${what} shows in a stat`)
    assert.equal(await side.read(key), undefined, `${what} can be read`)
    assert.equal(await side.stream(key), undefined, `${what} can be streamed`)
    const listed = await collectKeys(side, key, '')
    assert.deepEqual(listed, [], `${what} shows in a listing`)
  }
}

/** Passes the bytes on in uneven chunks, as a network would. */
export async function writeInChunks(
  target: Pick<Upload, 'write'>,
  bytes: Buffer,
  chunkBytes = 300 * kibibyte + 7,
): Promise<void> {
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    await target.write(Buffer.from(bytes.subarray(at, at + chunkBytes)))
  }
}

export async function uploadBytes(driver: Driver, key: string, bytes: Buffer): Promise<void> {
  const upload = await driver.upload(key, {})
  await writeInChunks(upload, bytes)
  await upload.complete()
}

/** Runs tasks with a bound, so that a case of a thousand keys does not open a thousand connections. */
export async function inParallel<T>(items: readonly T[], task: (item: T, index: number) => Promise<unknown>) {
  const entries = items.entries()
  const worker = async () => {
    for (const [index, item] of entries) await task(item, index)
  }
  await Promise.all(Array.from({ length: 16 }, worker))
}

/** A lease of 15 minutes that began `ageMs` ago by the storage's own clock. */
export async function leaseOfAge(
  { driver, prefix, generation }: ContractContext,
  ageMs: number,
): Promise<WriteLease> {
  const { date } = await driver.stat(`${prefix}clock`)
  return { generation, date: date - ageMs, durationMs: 15 * minuteMs }
}

export const validAgeMs = 5 * minuteMs
/** Beyond the duration of a lease, also where the backend's clock is a little behind. */
export const expiredAgesMs = [20 * minuteMs, 24 * 60 * minuteMs] as const
