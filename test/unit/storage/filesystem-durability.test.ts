/**
 * "An answer is given when file and folders are on the disk." A killed process cannot show it, since the page cache
 * survives it; so what is asked of the kernel is watched: a file is synced before it has its key, and the folder that
 * names it after that, all before the answer.
 */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { existsSync, readlinkSync } from 'node:fs'
import { mkdtemp, open, rm, type FileHandle } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Driver } from '../../../src/storage/driver.ts'
import { filesystemDriver } from '../../../src/storage/filesystem.ts'

interface Sync {
  /** The path that was open, as the system says. */
  readonly path: string
  readonly isFolder: boolean
  readonly size: number
  /** Whether the object had its key by then. */
  readonly isVisible: boolean
}

const key = 'folder/of/an/object'
let root = ''
let driver: Driver
let syncs: Sync[] = []
let restore: () => void

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'stowage-durability-'))
  driver = await filesystemDriver({ root })
  syncs = []
  restore = await watchSyncs()
})
afterEach(async () => {
  restore()
  await rm(root, { recursive: true, force: true })
})

/** Every handle of a file has one prototype, whoever opened it. */
async function watchSyncs(): Promise<() => void> {
  const handle = await open(root)
  const prototype = Object.getPrototypeOf(handle) as Pick<FileHandle, 'sync' | 'datasync'>
  await handle.close()
  const { sync, datasync } = prototype
  const watched = (real: () => Promise<void>) =>
    async function (this: FileHandle): Promise<void> {
      const path = readlinkSync(`/proc/self/fd/${this.fd}`)
      const stats = await this.stat()
      await real.call(this)
      syncs.push({
        path,
        isFolder: stats.isDirectory(),
        size: stats.size,
        isVisible: existsSync(join(root, key)),
      })
    }
  prototype.sync = watched(sync)
  prototype.datasync = watched(datasync)
  return () => Object.assign(prototype, { sync, datasync })
}

function expectDurable(bytes: number): void {
  const file = syncs.findIndex((sync) => !sync.isFolder && sync.size === bytes && !sync.isVisible)
  expect(file).toBeGreaterThanOrEqual(0)
  const after = syncs.slice(file + 1).filter((sync) => sync.isFolder && sync.isVisible)
  const folders = ['folder/of/an', 'folder/of', 'folder', ''].map((folder) => join(root, folder))
  // Folders that were made for it are names in those above them.
  expect(after.map(({ path }) => path)).toEqual(expect.arrayContaining(folders))
}

const content = Buffer.alloc(3_000, 'x')

describe('before the answer, the content is on the disk before its name, and its name after', () => {
  test('of a write', async () => {
    await driver.write(key, content)
    expectDurable(content.length)
  })

  test('of a write that must not find another', async () => {
    await driver.write(key, content, { ifAbsent: true })
    expectDurable(content.length)
  })

  test('of a write with a lease', async () => {
    await driver.write(key, content, { lease: { generation: 0, date: Date.now(), durationMs: 60_000 } })
    expectDurable(content.length)
  })

  test('of an upload', async () => {
    const upload = await driver.upload(key, {})
    await upload.write(content)
    await upload.complete({ lease: { generation: 0, date: Date.now(), durationMs: 60_000 } })
    expectDurable(content.length)
  })

  test('of a composition', async () => {
    await driver.write('parts/a', content)
    await driver.write('parts/b', content)
    syncs = []
    const parts = await Array.fromAsync(driver.list('parts/'))
    await driver.compose(parts, key)
    expectDurable(2 * content.length)
  })
})

test('a removal is on the disk before its answer', async () => {
  await driver.write(key, content)
  syncs = []
  await driver.remove([key])
  expect(syncs.filter((sync) => sync.isFolder && !sync.isVisible)).not.toEqual([])
})

test('a segment of an upload is on the disk before its answer', async () => {
  const append = await driver.append('segments/', 0)
  await append.write(content)
  await append.close()
  expect(syncs.some((sync) => !sync.isFolder && sync.size === content.length)).toBe(true)
  expect(syncs.some((sync) => sync.isFolder && sync.path === join(root, 'segments'))).toBe(true)
})
