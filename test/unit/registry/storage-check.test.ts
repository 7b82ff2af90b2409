import { expect, test } from '@jest/globals'
import { claimKey } from '../../../src/registry/layout.ts'
import { storageCheck } from '../../../src/registry/storage-check.ts'
import { memoryDriver } from '../../../src/storage/memory.ts'
import { logOperations } from '../../support/driver-log.ts'

const { signal } = new AbortController()

test('a storage is there if it answers, claimed or not, by one request that writes nothing', async () => {
  const { driver, operations } = logOperations(memoryDriver())
  await storageCheck(driver)(signal)
  expect(operations.map(({ verb }) => verb)).toEqual(['stat'])
})

test('a storage that does not answer is not there', async () => {
  const check = storageCheck({ ...memoryDriver(), stat: () => Promise.reject(new Error('broken')) })
  await expect(check(signal)).rejects.toThrow('broken')
})

test('a storage whose claim was seen and is gone is another one: an empty mount point, for example', async () => {
  const driver = memoryDriver()
  const check = storageCheck(driver)
  await check(signal)
  await driver.write(claimKey, Buffer.from('{}'))
  await check(signal)
  await driver.remove([claimKey])
  await expect(check(signal)).rejects.toThrow('is this still the same storage?')
})
