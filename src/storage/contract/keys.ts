import assert from 'node:assert/strict'
import { assertSameBytes, collectKeys, collectNames, inParallel, type ContractCase } from './case.ts'

const printable = Array.from({ length: 0x7e - 0x21 + 1 }, (_, index) => String.fromCharCode(0x21 + index))

const refused = [
  'a//b',
  'a/./b',
  'a/../b',
  '../a',
  './a',
  'a/',
  'a/..',
  'a b',
  'a\nb',
  'a\u0000b',
  'a\u007fb',
  'ä',
]

export const keyCases: readonly ContractCase[] = [
  {
    name: 'a key may hold every printable ASCII character, and is listed as it was written',
    async run({ driver, second, prefix }) {
      const names = printable.filter((character) => character !== '/').map((character) => `c${character}c`)
      await inParallel(names, (name) => driver.write(`${prefix}${name}`, Buffer.from(name)))
      await inParallel(names, async (name) => {
        assertSameBytes(await second.read(`${prefix}${name}`), Buffer.from(name), `the key ${name}`)
      })
      assert.deepEqual(await collectKeys(second, prefix), names, 'keys are not listed as they were written')
      assert.deepEqual(await collectNames(second, prefix), names, 'names are not listed as they were written')
    },
  },
  {
    name: 'keys differ by case',
    async run({ driver, prefix }) {
      await driver.write(`${prefix}Tag`, Buffer.from('upper'))
      await driver.write(`${prefix}tag`, Buffer.from('lower'))
      assertSameBytes(await driver.read(`${prefix}Tag`), Buffer.from('upper'), 'a key that differs by case')
      assert.deepEqual(await collectKeys(driver, prefix), ['Tag', 'tag'])
    },
  },
  {
    name: 'a key may be 900 bytes long',
    async run({ driver, second, prefix }) {
      const key = `${prefix}${`${'e'.repeat(89)}/`.repeat(10)}`.slice(0, 899) + 'k'
      await driver.write(key, Buffer.from('deep'))
      assertSameBytes(await second.read(key), Buffer.from('deep'), 'a key of 900 bytes')
      assert.deepEqual(await collectKeys(second, prefix, ''), [key])
    },
  },
  {
    name: 'what is no key is refused by everything that writes, and holds nothing for what reads',
    async run({ driver, prefix }) {
      const bytes = Buffer.from('a')
      await driver.write(`${prefix}b`, bytes)
      const keys = [
        ...refused.map((key) => `${prefix}${key}`),
        '',
        '/',
        `/${prefix}b`,
        '..',
        'k'.repeat(1025),
      ]
      for (const key of keys) {
        const shown = JSON.stringify(key)
        await assert.rejects(driver.write(key, bytes), `write took ${shown} for a key`)
        await assert.rejects(driver.upload(key, {}), `upload took ${shown} for a key`)
        await assert.rejects(driver.compose([], key), `compose took ${shown} for a key`)
        for (const verb of ['stat', 'read', 'stream'] as const) {
          const found = await driver[verb](key).catch(() => undefined)
          const isEmpty = found === undefined || ('date' in found && found.object === undefined)
          assert.ok(isEmpty, `${verb} found something under ${shown}, which is no key`)
        }
      }
      await assert.rejects(driver.append(`${prefix}a//`, 0), 'append took a prefix with an empty element')
      assert.deepEqual(await collectKeys(driver, prefix), ['b'])
    },
  },
  {
    name: 'no prefix leads out of the storage or to another folder',
    async run({ driver, prefix }) {
      await driver.write(`${prefix}a/b`, Buffer.from('a'))
      for (const wrong of ['a/../a/', 'a//', './a/', '../', 'a/./b', '/a', 'a/b/']) {
        assert.deepEqual(
          await collectKeys(driver, `${prefix}${wrong}`),
          [],
          `something is listed under "${wrong}"`,
        )
      }
      assert.deepEqual(
        await collectKeys(driver, `/${prefix}`),
        [],
        'something is listed under a leading slash',
      )
    },
  },
]
