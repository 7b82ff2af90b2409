import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import type { Listed } from '../../../src/storage/driver.ts'
import { planParts } from '../../../src/storage/s3/compose.ts'
import {
  maxCopyBytes,
  maxParts,
  minPartBytes,
  partBytesFor,
  pieceBytesAt,
} from '../../../src/storage/s3/options.ts'

const mebibyte = 1024 * 1024

const sourceOf = (size: number, index: number): Listed => ({
  key: `source-${index}`,
  object: { size, modified: 0, version: `${index}` },
})

const sizes = fc.array(
  fc.oneof(
    fc.integer({ min: 0, max: 3 }),
    fc.integer({ min: minPartBytes - 2, max: minPartBytes + 2 }),
    fc.integer({ min: 2 * minPartBytes - 2, max: 2 * minPartBytes + 2 }),
    fc.integer({ min: 1, max: 64 * mebibyte }),
    fc.integer({ min: maxCopyBytes - 1, max: 3 * maxCopyBytes }),
  ),
  { minLength: 1, maxLength: 30 },
)

describe('a composition', () => {
  test('has every byte of its sources once, in order', () => {
    fc.assert(
      fc.property(sizes, (sizes) => {
        const slices = planParts(sizes.map(sourceOf)).flatMap((part) => part.slices)
        const expected = sizes.flatMap((size, index) => (size > 0 ? [{ key: `source-${index}`, size }] : []))
        let at = 0
        for (const { key, size } of expected) {
          let next = 0
          while (next < size) {
            const slice = slices[at++]
            expect(slice?.source.key).toBe(key)
            expect(slice?.range.start).toBe(next)
            next = (slice?.range.end ?? Infinity) + 1
          }
          expect(next).toBe(size)
        }
        expect(at).toBe(slices.length)
      }),
    )
  })

  test('has parts that S3 takes: large enough but for the last, and ranges only of large objects', () => {
    fc.assert(
      fc.property(sizes, (sizes) => {
        const parts = planParts(sizes.map(sourceOf))
        for (const [index, { kind, slices }] of parts.entries()) {
          const bytes = slices.reduce((sum, { range }) => sum + range.end - range.start + 1, 0)
          if (index < parts.length - 1) expect(bytes).toBeGreaterThanOrEqual(minPartBytes)
          if (kind === 'join') expect(bytes).toBeLessThan(3 * minPartBytes + 64 * mebibyte)
          else {
            expect(bytes).toBeLessThanOrEqual(maxCopyBytes)
            expect(slices.length).toBe(1)
          }
          for (const { source, range } of slices) {
            const isWhole = range.start === 0 && range.end === source.object.size - 1
            if (kind === 'copy' && !isWhole) expect(source.object.size).toBeGreaterThan(minPartBytes)
          }
        }
      }),
    )
  })

  test('of very many small sources has at most as many parts as S3 takes', () => {
    const sources = Array.from({ length: 200_000 }, (_, index) => sourceOf(mebibyte, index))
    expect(planParts(sources).length).toBeLessThanOrEqual(maxParts)
  })
})

describe('the sizes of parts', () => {
  const settings = { partBytes: 8 * mebibyte, largestBytes: 32 * mebibyte }

  test('grow with the stream, so that 10,000 of them hold 250 GB', () => {
    let offset = 0
    for (let part = 0; part < maxParts; part++) offset += pieceBytesAt(offset, settings)
    expect(offset).toBeGreaterThan(250e9)
    expect(pieceBytesAt(0, settings)).toBe(8 * mebibyte)
    expect(pieceBytesAt(offset, settings)).toBe(32 * mebibyte)
  })

  test('suffice where the size is known, up to what the memory for a part allows', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 32 * mebibyte * maxParts }), (size) => {
        const bytes = partBytesFor(size, settings)
        expect(Math.ceil(size / bytes)).toBeLessThanOrEqual(maxParts)
        expect(bytes).toBeGreaterThanOrEqual(settings.partBytes)
        expect(bytes).toBeLessThanOrEqual(settings.largestBytes)
      }),
    )
  })

  test('a length that nobody has room for is refused before a byte is taken', () => {
    expect(() => partBytesFor(5 * mebibyte * mebibyte, settings)).toThrow('raise --upload-memory')
  })
})
