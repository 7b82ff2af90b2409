import assert from 'node:assert/strict'
import { assertSameBytes, collectKeys, collectNames, mebibyte, winnerOf, type ContractCase } from './case.ts'

export const concurrencyCases: readonly ContractCase[] = [
  {
    name: 'of 32 who create one object at once exactly one wins, and the content is its own',
    async run({ driver, second, prefix }) {
      for (let round = 0; round < 4; round++) {
        const key = `${prefix}round-${round}/record`
        const create = (racer: number) =>
          (racer % 2 ? second : driver).write(key, Buffer.from(`racer ${racer}`), { ifAbsent: true })
        const results = await Promise.allSettled(Array.from({ length: 32 }, (_, racer) => create(racer)))
        const winner = winnerOf(results, 'create-if-absent (If-None-Match: *) is what collections stand on')
        assertSameBytes(
          await second.read(key),
          Buffer.from(`racer ${winner}`),
          'an object with racing creators',
        )
      }
    },
  },
  {
    name: 'a reader of an object that is replaced all the time sees it whole, old or new',
    async run({ driver, second, prefix }) {
      const key = `${prefix}a`
      const fill = (letter: number) => Buffer.alloc(mebibyte, letter)
      await driver.write(key, fill(0))
      let isWriting = true
      const write = async () => {
        for (let letter = 1; letter <= 12; letter++) await driver.write(key, fill(letter))
        isWriting = false
      }
      const read = async () => {
        do {
          const bytes = await second.read(key)
          assert.ok(bytes, 'an object is absent for a moment while it is replaced')
          assertSameBytes(bytes, fill(bytes[0] ?? 0), 'an object that is being replaced')
        } while (isWriting)
      }
      await Promise.all([write(), read(), read()])
    },
  },
  {
    name: 'what one process has written, replaced or removed another sees at once, in reads and listings',
    async run({ driver, second, prefix }) {
      const key = `${prefix}folder/a`
      for (let round = 0; round < 10; round++) {
        const [writer, reader] = round % 2 ? [driver, second] : [second, driver]
        const bytes = Buffer.from(`round ${round}`)
        await writer.write(key, bytes)
        assertSameBytes(await reader.read(key), bytes, "another process's write")
        assert.deepEqual(
          await collectKeys(reader, prefix),
          ['folder/a'],
          'a listing misses what was just written',
        )
        assert.deepEqual(await collectNames(reader, prefix), ['folder/'], 'names miss what was just written')
        if (round % 3 !== 2) continue
        await writer.remove([key])
        assert.equal(await reader.read(key), undefined, 'what another process has removed can still be read')
        assert.deepEqual(await collectKeys(reader, prefix), [], 'a listing shows what was just removed')
        assert.deepEqual(await collectNames(reader, prefix), [], 'names show what was just removed')
      }
    },
  },
  {
    name: 'creating in a folder that others empty at the same moment always succeeds',
    async run({ driver, second, prefix }) {
      const churn = async (side: typeof driver, name: string) => {
        for (let round = 0; round < 40; round++) {
          const key = `${prefix}shared/folder/${name}`
          await side.write(key, Buffer.from(`${round}`), { ifAbsent: true })
          assertSameBytes(
            await side.read(key),
            Buffer.from(`${round}`),
            'an object beside others that come and go',
          )
          await side.remove([key])
        }
      }
      await Promise.all([churn(driver, 'a'), churn(driver, 'b'), churn(second, 'c'), churn(second, 'd')])
    },
  },
]
