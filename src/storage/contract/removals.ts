import assert from 'node:assert/strict'
import { assertInvisible, collectKeys, type ContractCase } from './case.ts'

export const removalCases: readonly ContractCase[] = [
  {
    name: 'a removed object is gone, its neighbours stay',
    async run(context) {
      const { driver, prefix } = context
      for (const key of ['a/b', 'a/c', 'a-b', 'ab']) await driver.write(`${prefix}${key}`, Buffer.from(key))
      await driver.remove([`${prefix}a/b`])
      await assertInvisible(context, `${prefix}a/b`, 'a removed object')
      assert.deepEqual(await collectKeys(driver, prefix), ['a-b', 'a/c', 'ab'])
      await driver.remove([`${prefix}a/c`, `${prefix}ab`])
      assert.deepEqual(await collectKeys(driver, prefix), ['a-b'])
    },
  },
  {
    name: 'removing nothing, and what does not exist, is no error',
    async run({ driver, prefix }) {
      await driver.write(`${prefix}a/b`, Buffer.from('a'))
      await driver.remove([])
      await driver.remove([`${prefix}absent`])
      await driver.remove([`${prefix}absent`, `${prefix}no/such/folder`, `${prefix}a`, `${prefix}a/b/c`])
      assert.deepEqual(
        await collectKeys(driver, prefix),
        ['a/b'],
        'removing what does not exist removed something',
      )
    },
  },
  {
    name: 'removing an object twice, and by two processes at once, is no error',
    async run({ driver, second, prefix }) {
      await driver.write(`${prefix}a/b`, Buffer.from('a'))
      await Promise.all([driver.remove([`${prefix}a/b`, `${prefix}a/b`]), second.remove([`${prefix}a/b`])])
      assert.deepEqual(await collectKeys(second, prefix), [])
    },
  },
]
