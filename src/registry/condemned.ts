import { createHash } from 'node:crypto'

/** The names that a finished run announced: it may delete them after the grace, unless somebody asks for them back. */
export interface CondemnedSet {
  readonly size: number
  /** True for every condemned key, and for one in 2^64 of the others, which costs a needless rescue. */
  has(key: string): boolean
}

export const nothingCondemned: CondemnedSet = { size: 0, has: () => false }

/** 64 bits of the key's SHA-256. */
function hashOfKey(key: string): bigint {
  return createHash('sha256').update(key).digest().readBigUInt64BE(0)
}

/**
 * @param shards as they are stored: hashes of keys, 8 bytes each, big-endian
 * @throws Error where a shard is not a whole number of hashes
 */
export function condemnedSet(shards: readonly Buffer[]): CondemnedSet {
  const total = shards.reduce((sum, shard) => sum + shard.length, 0)
  if (shards.some((shard) => shard.length % 8 !== 0)) throw new Error('a condemned shard has been cut short')
  if (total === 0) return nothingCondemned
  const hashes = new BigUint64Array(total / 8)
  let count = 0
  for (const shard of shards) {
    for (let at = 0; at < shard.length; at += 8) hashes[count++] = shard.readBigUInt64BE(at)
  }
  hashes.sort()
  return { size: count, has: (key) => includes(hashes, hashOfKey(key)) }
}

function includes(sorted: BigUint64Array, wanted: bigint): boolean {
  let low = 0
  let high = sorted.length - 1
  while (low <= high) {
    const middle = (low + high) >>> 1
    const found = sorted[middle] ?? 0n
    if (found === wanted) return true
    if (found < wanted) low = middle + 1
    else high = middle - 1
  }
  return false
}
