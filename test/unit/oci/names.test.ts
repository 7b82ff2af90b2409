import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { OciError } from '../../../src/oci/errors.ts'
import {
  parseReference,
  parseRepositoryName,
  parseTag,
  tryParseRepositoryName,
  tryParseTag,
} from '../../../src/oci/names.ts'

/** The grammar of names again, read from left to right, without a regular expression. */
function isName(text: string): boolean {
  if (text.length > 255) return false
  return text.split('/').every((element) => {
    let rest = element
    for (;;) {
      const word = takeWhile(rest, isAlphanumeric)
      rest = rest.slice(word.length)
      if (word === '') return false
      if (rest === '') return true
      const separator = takeWhile(rest, (character) => '._-'.includes(character))
      if (
        !['.', '_', '__'].includes(separator) &&
        (separator === '' || separator !== '-'.repeat(separator.length))
      )
        return false
      rest = rest.slice(separator.length)
    }
  })
}

function isTag(text: string): boolean {
  const isFirst = (character: string) => isAlphanumeric(character.toLowerCase()) || character === '_'
  const [first = ''] = text
  if (text.length < 1 || text.length > 128 || /[^\0-\x7f]/.test(text) || !isFirst(first)) return false
  return text.split('').every((character) => isFirst(character) || character === '.' || character === '-')
}

const isAlphanumeric = (character: string) =>
  (character >= 'a' && character <= 'z') || (character >= '0' && character <= '9')

function takeWhile(text: string, holds: (character: string) => boolean): string {
  let length = 0
  while (length < text.length && holds(text[length] ?? '')) length++
  return text.slice(0, length)
}

/** Texts near the grammar: made of its characters, and of a few that it does not have. */
const nearName = fc.string({
  unit: fc.constantFrom(...'ab09._-/'.split(''), '__', '--', 'A', ' ', '\n', '\0', 'ä', '%'),
  maxLength: 40,
})
const separator = fc.oneof(
  fc.constantFrom('.', '_', '__'),
  fc.integer({ min: 1, max: 5 }).map((count) => '-'.repeat(count)),
)
const word = fc.string({ unit: fc.constantFrom(...'abcxyz0189'.split('')), minLength: 1, maxLength: 8 })
const element = fc
  .tuple(word, fc.array(fc.tuple(separator, word), { maxLength: 3 }))
  .map(([first, rest]) => first + rest.flat().join(''))
const name = fc.array(element, { minLength: 1, maxLength: 4 }).map((elements) => elements.join('/'))
const tag = fc
  .tuple(
    fc.constantFrom(...'aZ0_'.split('')),
    fc.string({ unit: fc.constantFrom(...'aZ09_.-'.split('')), maxLength: 127 }),
  )
  .map(([first, rest]) => first + rest)

describe('a repository name', () => {
  test('of the grammar is taken as it is', () => {
    fc.assert(
      fc.property(name, (text) => {
        fc.pre(text.length <= 255)
        expect(isName(text)).toBe(true)
        expect(parseRepositoryName(text)).toBe(text)
      }),
    )
  })

  test('is taken exactly where another reading of the grammar takes it', () => {
    fc.assert(
      fc.property(fc.oneof(nearName, fc.string({ unit: 'binary' })), (text) => {
        expect(tryParseRepositoryName(text) !== undefined).toBe(isName(text))
      }),
      { numRuns: 2_000 },
    )
  })

  test('that is taken is a path below where it is put, and nowhere else', () => {
    fc.assert(
      fc.property(fc.oneof(nearName, name), (text) => {
        fc.pre(tryParseRepositoryName(text) !== undefined)
        expect(new URL(`file:///root/${text}`).pathname).toBe(`/root/${text}`)
        expect(text.split('/').some((part) => ['', '.', '..'].includes(part) || part.startsWith('_'))).toBe(
          false,
        )
      }),
    )
  })

  test('has at most 255 characters', () => {
    expect(tryParseRepositoryName('a'.repeat(255))).toBe('a'.repeat(255))
    expect(tryParseRepositoryName('a'.repeat(256))).toBeUndefined()
  })

  test('is looked at in linear time', () => {
    const began = performance.now()
    for (const text of [
      'a'.repeat(255),
      'a-'.repeat(127),
      '-'.repeat(255),
      'a/'.repeat(127),
      'a__'.repeat(85),
    ]) {
      for (let round = 0; round < 100; round++) tryParseRepositoryName(`${text}!`.slice(-255))
    }
    expect(performance.now() - began).toBeLessThan(1_000)
  })

  test('that is none is refused with what it should have been', () => {
    const parse = () => parseRepositoryName('Library/x'.repeat(100))
    expect(parse).toThrow(OciError)
    expect(parse).toThrow(/lower-case letters/)
  })
})

describe('a tag', () => {
  test('of the grammar is taken as it is', () => {
    fc.assert(
      fc.property(tag, (text) => {
        expect(parseTag(text)).toBe(text)
        expect(parseReference(text)).toEqual({ tag: text })
      }),
    )
  })

  test('is taken exactly where another reading of the grammar takes it', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          tag,
          fc.string({ unit: fc.constantFrom(...'aZ0._-:/@ \n\0é'.split('')), maxLength: 130 }),
          fc.string({ unit: 'binary' }),
        ),
        (text) => {
          expect(tryParseTag(text) !== undefined).toBe(isTag(text))
        },
      ),
      { numRuns: 2_000 },
    )
  })

  test('has at most 128 characters', () => {
    expect(tryParseTag('a'.repeat(128))).toBe('a'.repeat(128))
    expect(tryParseTag('a'.repeat(129))).toBeUndefined()
    expect(tryParseTag('a\n')).toBeUndefined()
  })
})

describe('a reference', () => {
  test('with a colon was meant as a digest', () => {
    const digest = `sha256:${'0'.repeat(64)}`
    expect(parseReference(digest)).toEqual({ digest })
    expect(() => parseReference('sha256:x')).toThrow(expect.objectContaining({ code: 'DIGEST_INVALID' }))
    expect(() => parseReference('-')).toThrow(expect.objectContaining({ code: 'TAG_INVALID' }))
  })
})
