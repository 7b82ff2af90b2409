import { describe, test } from '@jest/globals'
import { memoryDriver } from '../../src/storage/memory.ts'
import { contractCases, runContractCase } from '../../src/storage/verify-driver.ts'

describe('the memory driver', () => {
  const driver = memoryDriver()
  for (const contractCase of contractCases) {
    test(contractCase.name, async () => {
      // Memory is not shared between processes: there is no second one.
      await runContractCase(contractCase, { driver, second: driver, generation: 0 }, 'contract/')
    })
  }
})
