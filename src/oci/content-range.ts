import { OciError } from './errors.ts'

/** Bytes `start` to `end`, both included, counted from 0. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

/**
 * end-5: the Content-Range of a chunk, "inclusive on both ends", matching `^[0-9]+-[0-9]+$`. Clients of HTTP's own
 * form (`bytes 0-9/*`) are taken too.
 * @throws OciError CHUNK_OUT_OF_ORDER
 */
export function parseContentRange(text: string): ByteRange {
  const match = /^(?:bytes[ =])?([0-9]+)-([0-9]+)(?:\/(?:[0-9]+|\*))?$/.exec(text)
  const start = Number(match?.[1])
  const end = Number(match?.[2])
  if (match && Number.isSafeInteger(start) && Number.isSafeInteger(end) && start <= end) return { start, end }
  throw new OciError('CHUNK_OUT_OF_ORDER', {
    message: 'invalid Content-Range: expected <first byte>-<last byte>, such as 0-1023',
    detail: { contentRange: text.slice(0, 200) },
  })
}

/**
 * The Range header of a GET (RFC 9110, section 14) over `size` bytes.
 * @returns undefined where the whole is the right answer: no range, another unit, or several ranges, which a server
 *   may ignore
 * @throws OciError RANGE_INVALID where no byte of it exists
 */
export function parseRange(text: string | undefined, size: number): ByteRange | undefined {
  const [, first, last] = /^bytes=\s*([0-9]*)-([0-9]*)\s*$/.exec(text ?? '') ?? []
  if (!first && !last) return undefined
  const start = first ? Number(first) : Math.max(0, size - Number(last))
  const end = first && last ? Math.min(Number(last), size - 1) : size - 1
  if (start <= end) return { start, end }
  throw new OciError('RANGE_INVALID', {
    message: `range not satisfiable: the content has ${size} bytes`,
    headers: { 'Content-Range': `bytes */${size}` },
  })
}
