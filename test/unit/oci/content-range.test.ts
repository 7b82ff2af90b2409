import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { parseContentRange, parseRange } from '../../../src/oci/content-range.ts'

const outOfOrder = expect.objectContaining({ code: 'CHUNK_OUT_OF_ORDER', status: 416 })
const unsatisfiable = expect.objectContaining({ code: 'RANGE_INVALID', status: 416 })

describe('Content-Range', () => {
  test('of a chunk is read back as it was written, in both forms', () => {
    fc.assert(
      fc.property(
        fc.nat(2 ** 40),
        fc.nat(2 ** 40),
        fc.constantFrom('', '/*', '/99'),
        (start, length, total) => {
          const range = { start, end: start + length }
          expect(parseContentRange(`${range.start}-${range.end}`)).toEqual(range)
          expect(parseContentRange(`bytes ${range.start}-${range.end}${total}`)).toEqual(range)
        },
      ),
    )
  })

  test('is a range of safe numbers, in order, or is refused', () => {
    const digits = fc.string({ unit: fc.constantFrom(...'0123456789'.split('')), maxLength: 30 })
    const text = fc.oneof(
      fc.tuple(digits, digits).map((ends) => ends.join('-')),
      fc.string({
        unit: fc.constantFrom(...'0123456789-/* ,='.split(''), 'bytes ', 'bytes=', '\n', '٣', 'e', 'x', '.'),
      }),
      fc.string({ unit: 'binary' }),
    )
    fc.assert(
      fc.property(text, (header) => {
        let range
        try {
          range = parseContentRange(header)
        } catch (error) {
          expect(error).toEqual(outOfOrder)
          return
        }
        expect(Number.isSafeInteger(range.start) && Number.isSafeInteger(range.end)).toBe(true)
        expect(range.start).toBeLessThanOrEqual(range.end)
        expect(
          header
            .replace(/^bytes[ =]/, '')
            .split('/')[0]
            ?.split('-')
            .map(Number),
        ).toEqual([range.start, range.end])
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('Range', () => {
  /** Which positions RFC 9110, section 14.1.2 selects, one by one. */
  function selected(first: string, last: string, size: number): number[] {
    const isSelected = (position: number) => {
      if (first === '') return position >= size - Number(last)
      return position >= Number(first) && (last === '' || position <= Number(last))
    }
    return Array.from({ length: size }, (_, position) => position).filter(isSelected)
  }

  const end = fc.oneof(
    fc.constant(''),
    fc.nat(30).map(String),
    fc.constantFrom('0', '00', '007', '9'.repeat(25), '9'.repeat(400)),
  )

  test('selects the positions that it names, or nothing and is refused', () => {
    fc.assert(
      fc.property(end, end, fc.nat(25), (first, last, size) => {
        fc.pre(first !== '' || last !== '')
        const positions = selected(first, last, size)
        const header = `bytes=${first}-${last}`
        if (positions.length === 0) {
          expect(() => parseRange(header, size)).toThrow(unsatisfiable)
          expect(() => parseRange(header, size)).toThrow(
            expect.objectContaining({ headers: { 'Content-Range': `bytes */${size}` } }),
          )
        } else {
          expect(parseRange(header, size)).toEqual({ start: positions[0], end: positions.at(-1) })
        }
      }),
      { numRuns: 2_000 },
    )
  })

  test('of any text is a range within the size, the whole, or refused', () => {
    const text = fc.oneof(
      fc.string({ unit: fc.constantFrom(...'0123456789-,= '.split(''), 'bytes', 'bytes=', '\t', 'e') }),
      fc.string({ unit: 'binary' }),
    )
    fc.assert(
      fc.property(text, fc.nat(100), (header, size) => {
        let range
        try {
          range = parseRange(header, size)
        } catch (error) {
          expect(error).toEqual(unsatisfiable)
          return
        }
        if (range === undefined) return
        expect(range.start).toBeGreaterThanOrEqual(0)
        expect(range.end).toBeLessThan(size)
        expect(range.start).toBeLessThanOrEqual(range.end)
      }),
      { numRuns: 2_000 },
    )
  })

  test('that is not there is the whole', () => {
    expect(parseRange(undefined, 10)).toBeUndefined()
    expect(parseRange('', 10)).toBeUndefined()
    expect(parseRange('bytes=0-1,3-4', 10)).toBeUndefined()
  })
})
