import { expect, test } from '@jest/globals'
import { checkKey, keyFault } from '../../../src/storage/keys.ts'

test('a key is a path of printable ASCII', () => {
  for (const key of [
    'a',
    'a/b',
    'a-b.c_d~e',
    '!',
    '...',
    'a/...',
    '.a',
    'k'.repeat(1024),
    '%2e%2e/a',
    '\\',
  ]) {
    expect([key, keyFault(key)]).toEqual([key, undefined])
    expect(() => {
      checkKey(key)
    }).not.toThrow()
  }
})

test('what is no key says why', () => {
  for (const [key, fault] of [
    ['', 'printable'],
    ['/', 'empty'],
    ['/a', 'empty'],
    ['a/', 'empty'],
    ['a//b', 'empty'],
    ['.', '"."'],
    ['a/../b', '".."'],
    ['..', '".."'],
    ['a b', 'printable'],
    ['a\nb', 'printable'],
    ['a\u0000', 'printable'],
    ['ä', 'printable'],
    ['k'.repeat(1025), '1,024'],
  ] as const) {
    expect(keyFault(key)).toContain(fault)
    expect(() => {
      checkKey(key)
    }).toThrow('not a storage key')
  }
})
