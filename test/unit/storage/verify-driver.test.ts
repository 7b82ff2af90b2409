/** A contract is worth what it catches: each fault that backends are known for fails it, with a message that names it. */
import { describe, expect, test } from '@jest/globals'
import type { Driver, WriteOptions } from '../../../src/storage/driver.ts'
import { memoryDriver } from '../../../src/storage/memory.ts'
import { contractCases, runContractCase } from '../../../src/storage/verify-driver.ts'

/** The message of the first case that fails. */
async function firstFailure(driver: Driver, second = driver): Promise<string | undefined> {
  for (const contractCase of contractCases) {
    try {
      await runContractCase(contractCase, { driver, second, generation: 0 }, 'contract/')
    } catch (error) {
      return `${contractCase.name}: ${error instanceof Error ? error.message : String(error)}`
    }
  }
  return undefined
}

async function* inAnotherOrder(driver: Driver, prefix: string, after: string) {
  const listed = []
  for await (const entry of driver.list(prefix, { after })) listed.push(entry)
  const asFolders = (key: string) => key.replaceAll('/', '\u0000')
  yield* listed.toSorted((a, b) => (asFolders(a.key) < asFolders(b.key) ? -1 : 1))
}

function withoutLease(options: WriteOptions): WriteOptions {
  return Object.fromEntries(Object.entries(options).filter(([name]) => name !== 'lease'))
}

async function* atMost<T>(count: number, items: AsyncIterable<T>) {
  let given = 0
  for await (const item of items) if (given++ < count) yield item
}

const faults: readonly { fault: string; message: string; inject: (driver: Driver) => Partial<Driver> }[] = [
  {
    fault: 'ignores create-if-absent',
    message: 'create-if-absent is not honoured',
    inject: (driver) => ({
      write: (key, bytes, options) => driver.write(key, bytes, { ...options, ifAbsent: false }),
    }),
  },
  {
    fault: 'checks create-if-absent, and then writes, in two steps',
    message: 'racers won, and it must be one',
    inject: (driver) => ({
      async write(key, bytes, { ifAbsent, ...rest } = {}) {
        if (ifAbsent && (await driver.stat(key)).object)
          return driver.write(key, bytes, { ifAbsent, ...rest })
        await new Promise((resolve) => setTimeout(resolve, 1))
        return driver.write(key, bytes, rest)
      },
    }),
  },
  {
    fault: 'writes after its lease',
    message: 'a write was admitted after its lease was over',
    inject: (driver) => ({
      write: (key, bytes, options = {}) => driver.write(key, bytes, withoutLease(options)),
    }),
  },
  {
    fault: 'removes after its lease',
    message: 'a removal was admitted after its lease was over',
    inject: (driver) => ({ remove: (keys) => driver.remove(keys) }),
  },
  {
    fault: 'composes after its lease',
    message: 'a composition was admitted after its lease was over',
    inject: (driver) => ({ compose: (sources, key) => driver.compose(sources, key) }),
  },
  {
    fault: 'lists folders before their neighbours',
    message: 'the listing is not in the order',
    inject: (driver) => ({ list: (prefix, { after = '' } = {}) => inAnotherOrder(driver, prefix, after) }),
  },
  {
    fault: 'lists one page',
    message: 'a listing of over 1,000 objects is not complete',
    inject: (driver) => ({ list: (prefix, options) => atMost(1000, driver.list(prefix, options)) }),
  },
  {
    fault: 'removes one page',
    message: 'removing over 1,000 objects left some of them',
    inject: (driver) => ({ remove: (keys, options) => driver.remove(keys.slice(0, 1000), options) }),
  },
  {
    fault: 'takes `after` for the first name to give',
    message: 'the names after',
    inject: (driver) => ({
      async *listNames(folder, { after = '' } = {}) {
        for await (const name of driver.listNames(folder)) if (name >= after) yield name
      },
    }),
  },
  {
    fault: 'reads whatever the size',
    message: 'one wrong object could fill the memory',
    inject: (driver) => ({ read: (key, options) => driver.read(key, { ...options, maxBytes: Infinity }) }),
  },
  {
    fault: 'takes the end of a range for excluded',
    message: 'the range 0-0 of',
    inject: (driver) => ({
      stream: (key, { range } = {}) =>
        driver.stream(key, range ? { range: { start: range.start, end: range.end - 1 } } : {}),
    }),
  },
  {
    fault: 'shows uploads before they are completed',
    message: 'an upload completed after its lease shows in a stat',
    inject: (driver) => ({
      async upload(key, options) {
        await driver.write(key, Buffer.alloc(0))
        return driver.upload(key, options)
      },
    }),
  },
  {
    fault: 'composes whatever its sources have become',
    message: 'a composition took a source that is changed',
    inject: (driver) => ({
      async compose(sources, key, options) {
        const fresh = sources.map(async (source) => ({
          key: source.key,
          object: (await driver.stat(source.key)).object ?? source.object,
        }))
        return driver.compose(await Promise.all(fresh), key, options)
      },
    }),
  },
  {
    fault: 'appends where something is already',
    message: 'racers won, and it must be one',
    inject: (driver) => ({
      async append(prefix, offset) {
        const append = await driver.append(prefix, offset)
        return {
          write: (chunk) => append.write(chunk),
          close: () => append.close().catch(() => []),
        }
      },
    }),
  },
  {
    fault: 'removes nothing',
    message: 'still listed after everything was removed',
    inject: () => ({ remove: async () => {} }),
  },
]

describe('the contract fails a storage that', () => {
  for (const { fault, message, inject } of faults) {
    test(fault, async () => {
      const driver = memoryDriver()
      expect(await firstFailure({ ...driver, ...inject(driver) })).toContain(message)
    })
  }

  test('shows one process late what another has written', async () => {
    const driver = memoryDriver()
    const remembered = new Map<string, Promise<Buffer | undefined>>()
    const stale: Driver = {
      ...driver,
      read(key, options) {
        const found = remembered.get(key) ?? driver.read(key, options)
        remembered.set(key, found)
        return found
      },
    }
    expect(await firstFailure(driver, stale)).toContain('an object overwritten by another process')
  })
})
