import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { createHash } from 'node:crypto'
import {
  algorithmOf,
  algorithms,
  digestOf,
  finishHash,
  hexOf,
  parseAlgorithm,
  parseDigest,
  startHash,
  tryParseDigest,
} from '../../../src/oci/digest.ts'

const lengths: Readonly<Record<string, number>> = { sha256: 64, sha512: 128 }

/** The grammar again, a character at a time. */
function isDigest(text: string): boolean {
  const [algorithm = '', hex = '', ...more] = text.split(':')
  if (more.length > 0 || !Object.hasOwn(lengths, algorithm) || hex.length !== lengths[algorithm]) return false
  return hex.split('').every((character) => '0123456789abcdef'.includes(character))
}

const hexOfLength = (length: number) =>
  fc.string({ unit: fc.constantFrom(...'0123456789abcdef'.split('')), minLength: length, maxLength: length })
const valid = fc
  .constantFrom('sha256', 'sha512')
  .chain((name) => hexOfLength(lengths[name] ?? 0).map((hex) => `${name}:${hex}`))
/** Valid ones with one character put in, taken out or replaced. */
const nearly = fc
  .tuple(
    valid,
    fc.nat(140),
    fc.nat(1),
    fc.constantFrom('', '0', 'g', 'A', ':', '/', '.', '\n', ' ', '\0', 'é'),
  )
  .map(([text, at, count, character]) => text.slice(0, at) + character + text.slice(at + count))

describe('a digest', () => {
  test('of the grammar is taken as it is, and comes apart', () => {
    fc.assert(
      fc.property(valid, (text) => {
        const digest = parseDigest(text)
        expect(digest).toBe(text)
        expect(`${algorithmOf(digest)}:${hexOf(digest)}`).toBe(text)
      }),
    )
  })

  test('is taken exactly where another reading of the grammar takes it', () => {
    const other = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.tuple(fc.string(), hexOfLength(64)).map((parts) => parts.join(':')),
    )
    fc.assert(
      fc.property(fc.oneof(nearly, valid, other), (text) => {
        expect(tryParseDigest(text) !== undefined).toBe(isDigest(text))
        if (!isDigest(text)) {
          expect(() => parseDigest(text)).toThrow(
            expect.objectContaining({ code: 'DIGEST_INVALID', status: 400 }),
          )
        }
      }),
      { numRuns: 2_000 },
    )
  })

  test.each(['toString', '__proto__', 'constructor', 'md5', 'sha1', 'SHA256', ''])(
    'of the algorithm "%s" is none',
    (algorithm) => {
      for (const length of [0, 32, 40, 64, 128])
        expect(tryParseDigest(`${algorithm}:${'0'.repeat(length)}`)).toBeUndefined()
      expect(() => parseAlgorithm(algorithm)).toThrow(expect.objectContaining({ code: 'DIGEST_INVALID' }))
    },
  )

  test('of bytes is what the platform computes, however they are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 50 })),
        fc.constantFrom(...algorithms),
        (chunks, algorithm) => {
          const bytes = Buffer.concat(chunks)
          const expected = `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`
          expect(digestOf(bytes, algorithm)).toBe(expected)
          const hash = startHash(algorithm)
          for (const chunk of chunks) hash.update(chunk)
          expect(finishHash(hash, algorithm)).toBe(expected)
          expect(tryParseDigest(expected)).toBe(expected)
        },
      ),
    )
  })
})
