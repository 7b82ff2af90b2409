/**
 * The records of a collector, written by hand as docs/GARBAGE-COLLECTION.md has them ("Words"): this file shares no
 * code with the server's half that reads them.
 */
import { createHash } from 'node:crypto'
import type { Driver } from '../../src/storage/driver.ts'

export interface CollectorRecords {
  claim(owner: string, more?: object): Promise<void>
  owner(run: number): Promise<void>
  /** A shard of what the run found unreachable. */
  condemned(run: number, keys: readonly string[], shard?: string): Promise<void>
  end(run: number, outcome: 'done' | 'deposed', shards?: readonly string[]): Promise<void>
  /** A whole run: owner, one shard, end. */
  done(run: number, condemned?: readonly string[]): Promise<void>
  deposed(run: number): Promise<void>
  sweeping(run: number, round: number, keys: readonly string[], leaseMs?: number): Promise<void>
  swept(run: number, round: number): Promise<void>
  /** The names that each rescue of a generation holds. */
  rescues(generation: number): Promise<string[][]>
  /** A record as it is, for what no collector of today writes. */
  write(run: number, record: string, body: object | Buffer): Promise<void>
}

export const shortTimes = {
  writeLeaseMs: 15 * 60_000,
  graceMarginMs: 0,
  roundLeaseMs: 90_000,
  removeLeaseMs: 60_000,
}

const pad = (number: number) => String(number).padStart(10, '0')

export function collectorRecords(driver: Driver): CollectorRecords {
  const create = async (key: string, body: object | Buffer) => {
    const bytes = Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify({ format: 1, ...body }))
    await driver.write(`stowage/gc/${key}`, bytes, { ifAbsent: true })
  }
  const records: CollectorRecords = {
    claim: (owner, more = {}) => create('claim', { owner, times: shortTimes, ...more }),
    owner: (run) => create(`runs/${pad(run)}/owner`, { by: `collector of run ${run}` }),
    condemned: (run, keys, shard = '0') => create(`runs/${pad(run)}/condemned-${shard}`, hashesOf(keys)),
    end: (run, outcome, shards = []) => create(`runs/${pad(run)}/end`, { outcome, shards }),
    async done(run, condemned = []) {
      await records.owner(run)
      if (condemned.length > 0) await records.condemned(run, condemned)
      await records.end(run, 'done', condemned.length > 0 ? ['0'] : [])
    },
    async deposed(run) {
      await records.owner(run)
      await records.end(run, 'deposed')
    },
    sweeping: (run, round, keys, leaseMs = 90_000) =>
      create(`runs/${pad(run)}/sweeping-${pad(round)}`, { keys, leaseMs }),
    swept: (run, round) => create(`runs/${pad(run)}/swept-${pad(round)}`, {}),
    async rescues(generation) {
      const found: string[][] = []
      for await (const { key } of driver.list(`stowage/gc/rescues/${pad(generation)}/`)) {
        const bytes = await driver.read(key)
        const { names } = JSON.parse(bytes?.toString() ?? '{}') as { names: string[] }
        found.push(names)
      }
      return found
    },
    write: (run, record, body) => create(`runs/${pad(run)}/${record}`, body),
  }
  return records
}

/** 64 bits of the SHA-256 of each name, big-endian, sorted. */
function hashesOf(keys: readonly string[]): Buffer {
  const hashes = keys.map((key) => createHash('sha256').update(key).digest().subarray(0, 8))
  return Buffer.concat(hashes.toSorted((a, b) => a.compare(b)))
}
