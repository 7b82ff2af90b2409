import assert from 'node:assert/strict'
import {
  collectKeys,
  collectListed,
  collectNames,
  inParallel,
  type ContractCase,
  type ContractContext,
} from './case.ts'

/** In byte order, where "-" and "." come before "/", and capitals before small letters. */
const ordered = ['!', 'A', 'a-b', 'a.b', 'a/B', 'a/b-c', 'a/b/c', 'a/b0', 'a0', 'ab/c-', '~']

async function writeEach({ driver, prefix }: ContractContext, keys: readonly string[]): Promise<void> {
  // Written in another order than they are listed in.
  await inParallel(keys.toReversed(), (key) => driver.write(`${prefix}${key}`, Buffer.from(key)))
}

export const listingCases: readonly ContractCase[] = [
  {
    name: 'a listing is in the order of the bytes of whole keys',
    async run(context) {
      await writeEach(context, ordered)
      const listed = await collectListed(context.second, context.prefix)
      assert.deepEqual(
        listed.map(({ key }) => key.slice(context.prefix.length)),
        ordered,
        'the listing is not in the order of the keys’ bytes',
      )
      for (const { key, object } of listed) assert.equal(object.size, key.length - context.prefix.length)
    },
  },
  {
    name: 'a prefix is any string: a folder is named with its slash',
    async run(context) {
      const { driver, prefix } = context
      const keys = ['repositories/a/x', 'repositories/a-b/x', 'repositories/ab/x', 'repositories/b/a']
      await writeEach(context, keys)
      const below = (part: string) => collectKeys(driver, `${prefix}${part}`, prefix)
      assert.deepEqual(
        await below('repositories/a/'),
        ['repositories/a/x'],
        'another folder shows in a listing',
      )
      assert.deepEqual(await below('repositories/a'), [
        'repositories/a-b/x',
        'repositories/a/x',
        'repositories/ab/x',
      ])
      assert.deepEqual(await below('repositories/ab'), ['repositories/ab/x'])
      assert.deepEqual(await below('repositories/a/x'), ['repositories/a/x'])
      assert.deepEqual(await below('repositories/a/x/'), [])
      assert.deepEqual(await below('repositories/c'), [])
      assert.deepEqual(await below('none/'), [])
    },
  },
  {
    name: 'a listing begins after a key, whether that key exists or not',
    async run(context) {
      const { driver, prefix } = context
      await writeEach(context, ordered)
      const positions = [...ordered, '', 'a', 'a/', 'a/b', 'a/b/', 'a/b/c0', 'a/zz', 'a/~~', 'b', 'zz', '~~']
      for (const after of positions) {
        const listed = await collectListed(driver, prefix, `${prefix}${after}`)
        const expected = ordered.filter((key) => key > after)
        assert.deepEqual(
          listed.map(({ key }) => key.slice(prefix.length)),
          expected,
          `the listing after "${after}" is not what follows it`,
        )
      }
      assert.equal(
        (await collectListed(driver, prefix, '!')).length,
        ordered.length,
        'a start before the prefix',
      )
    },
  },
  {
    name: 'the names of a folder come once each, in byte order, folders with their slash',
    async run(context) {
      const { driver, second, prefix } = context
      await writeEach(context, ordered)
      const names = ['!', 'A', 'a-b', 'a.b', 'a/', 'a0', 'ab/', '~']
      assert.deepEqual(await collectNames(second, prefix), names)
      assert.deepEqual(await collectNames(driver, `${prefix}a/`), ['B', 'b-c', 'b/', 'b0'])
      assert.deepEqual(await collectNames(driver, `${prefix}none/`), [])
      for (const after of [...names, '', 'a', 'a/b', 'a/~', 'b', '~~']) {
        const expected = names.filter((name) => name > after)
        assert.deepEqual(await collectNames(driver, prefix, after), expected, `the names after "${after}"`)
      }
      const top = `${prefix.split('/')[0]}/`
      assert.ok((await collectNames(driver, '')).includes(top), `${top} is missing at the root`)
    },
  },
  {
    name: 'a folder without objects is not listed, and neither is one that has lost its last',
    async run({ driver, second, prefix }) {
      assert.deepEqual(await collectNames(driver, prefix), [])
      await driver.write(`${prefix}a/b/c/d`, Buffer.from('a'))
      await driver.write(`${prefix}a/e`, Buffer.from('a'))
      await second.remove([`${prefix}a/b/c/d`])
      assert.deepEqual(await collectNames(driver, `${prefix}a/`), ['e'], 'a folder without objects is listed')
      await driver.remove([`${prefix}a/e`])
      assert.deepEqual(await collectNames(second, prefix), [], 'a folder without objects is listed')
    },
  },
  {
    name: 'more objects than fit on a page are listed completely, and removed in one call',
    async run({ driver, second, prefix }) {
      const folders = Array.from({ length: 1_150 }, (_, index) => `many/${String(index).padStart(5, '0')}`)
      const keys = folders.map((folder) => `${folder}/link`)
      await inParallel(keys, (key) => driver.write(`${prefix}${key}`, Buffer.from('x')))
      assert.deepEqual(
        await collectKeys(second, prefix),
        keys,
        'a listing of over 1,000 objects is not complete',
      )
      const names = folders.map((folder) => `${folder.slice('many/'.length)}/`)
      assert.deepEqual(
        await collectNames(second, `${prefix}many/`),
        names,
        'over 1,000 names are not complete',
      )
      assert.deepEqual(await collectNames(second, `${prefix}many/`, '01000/'), names.slice(1001))
      assert.deepEqual(await collectNames(second, prefix), ['many/'], 'a folder of over 1,000 objects')
      await driver.remove([...keys.map((key) => `${prefix}${key}`), `${prefix}many/absent`])
      assert.deepEqual(await collectKeys(second, prefix), [], 'removing over 1,000 objects left some of them')
    },
  },
  {
    name: 'a listing goes on while what it lists is removed',
    async run({ driver, second, prefix }) {
      const keys = Array.from({ length: 40 }, (_, index) => `${prefix}${String(index).padStart(2, '0')}/a/b`)
      await inParallel(keys, (key) => driver.write(key, Buffer.from('x')))
      const seen: string[] = []
      for await (const { key } of driver.list(prefix)) {
        if (seen.length === 0) await second.remove(keys.slice(1))
        seen.push(key)
      }
      assert.deepEqual(seen, [...new Set(seen)].toSorted(), 'a listing gave a key twice or out of order')
      assert.equal(seen[0], keys[0])
    },
  },
  {
    name: 'a listing that is left early leaves the driver working',
    async run(context) {
      const { driver, prefix } = context
      await writeEach(context, ordered)
      for (let round = 0; round < 20; round++) {
        for await (const { key } of driver.list(prefix)) {
          assert.equal(key, `${prefix}!`)
          break
        }
        for await (const name of driver.listNames(prefix)) {
          assert.equal(name, '!')
          break
        }
      }
    },
  },
]
