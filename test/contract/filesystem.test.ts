import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import type { Driver } from '../../src/storage/driver.ts'
import { filesystemDriver } from '../../src/storage/filesystem.ts'
import { contractCases, runContractCase } from '../../src/storage/verify-driver.ts'

describe('the filesystem driver', () => {
  let root: string
  let driver: Driver
  let second: Driver

  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'stowage-contract-'))
    driver = await filesystemDriver({ root })
    second = await filesystemDriver({ root })
  })

  afterAll(async () => {
    await rm(root, { recursive: true })
  })

  for (const contractCase of contractCases) {
    test(contractCase.name, async () => {
      await runContractCase(contractCase, { driver, second, generation: 0 }, 'contract/')
    })
  }

  test('after all of that no temporary file and no empty folder is left', async () => {
    const left = await readdir(root, { recursive: true })
    const own = ['stowage', 'stowage/gc', 'stowage/gc/tmp', 'stowage/gc/tmp/0000000000', 'stowage/tmp']
    expect(left.toSorted()).toEqual(own)
  })
})
