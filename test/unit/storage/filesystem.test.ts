import { execFileSync } from 'node:child_process'
import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { LeaseExpired, type Driver, type WriteLease } from '../../../src/storage/driver.ts'
import { filesystemDriver } from '../../../src/storage/filesystem.ts'
import { manualClock } from '../../support/manual-clock.ts'

const hourMs = 3_600_000
const generation0 = 'stowage/gc/tmp/0000000000'

let root: string
let driver: Driver

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'stowage-filesystem-'))
  driver = await filesystemDriver({ root })
})

afterEach(async () => {
  await rm(root, { recursive: true, force: true })
})

const at = (...path: string[]) => join(root, ...path)
const leaseOf = (generation: number): WriteLease => ({ generation, date: Date.now(), durationMs: hourMs })
const filesIn = (folder: string) => readdir(at(folder))

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

const keys = async (prefix = '') => (await collect(driver.list(prefix))).map(({ key }) => key)
const names = (folder: string) => collect(driver.listNames(folder))

describe('the folder of a generation', () => {
  test('comes into being once for generation 0, and is not made again by a later start', async () => {
    expect(await filesIn('stowage/gc/tmp')).toEqual(['0000000000'])
    await rename(at(generation0), at('stowage/gc/closed'))
    await filesystemDriver({ root })
    expect(await filesIn('stowage/gc/tmp')).toEqual([])
  })

  test('is there after eight starts at once on a new root', async () => {
    const fresh = at('fresh')
    await Promise.all(Array.from({ length: 8 }, () => filesystemDriver({ root: fresh })))
    expect(await readdir(join(fresh, 'stowage'), { recursive: true })).toEqual(
      expect.arrayContaining(['gc', 'tmp', 'gc/tmp', 'gc/tmp/0000000000']),
    )
    expect(await readdir(join(fresh, 'stowage/tmp'))).toEqual([])
  })

  test('is never made by a writer: without it every leased write is refused and leaves nothing', async () => {
    await driver.write('source', Buffer.from('a'))
    const [source] = await collect(driver.list('source'))
    const lease = leaseOf(7)
    await expect(driver.write('a', Buffer.from('a'), { lease })).rejects.toThrow(LeaseExpired)
    await expect(driver.write('a', Buffer.from('a'), { lease, ifAbsent: true })).rejects.toThrow(LeaseExpired)
    for (const sources of [[], source ? [source] : [], source ? [source, source] : []]) {
      await expect(driver.compose(sources, 'a', { lease })).rejects.toThrow(LeaseExpired)
    }
    const upload = await driver.upload('a', {})
    await upload.write(Buffer.from('a'))
    await expect(upload.complete({ lease })).rejects.toThrow(LeaseExpired)
    await upload.abort()
    expect(await filesIn('stowage/gc/tmp')).toEqual(['0000000000'])
    expect(await filesIn('stowage/tmp')).toEqual([])
    expect(await keys()).toEqual(['source'])
  })

  test('renamed away ends an upload that slept, which can be completed in the next generation', async () => {
    const upload = await driver.upload('a/b', {})
    await upload.write(Buffer.from('content'))
    await mkdir(at('stowage/gc/tmp/0000000001'))
    await rename(at(generation0), at('stowage/gc/closed'))
    await expect(upload.complete({ lease: leaseOf(0) })).rejects.toThrow(LeaseExpired)
    expect(await keys()).not.toContain('a/b')
    await upload.complete({ lease: leaseOf(1) })
    expect(await driver.read('a/b')).toEqual(Buffer.from('content'))
    expect(await filesIn('stowage/gc/tmp/0000000001')).toEqual([])
    expect(await filesIn('stowage/tmp')).toEqual([])
  })

  test('renamed away amid many writes: each is stored or refused, and none that begins later is stored', async () => {
    const lease = leaseOf(0)
    const stored: string[] = []
    const refusals: unknown[] = []
    const writeUntilRefused = async (writer: number) => {
      for (let round = 1; refusals.length === 0; round++) {
        const key = `many/${writer}-${round}`
        await driver.write(key, Buffer.from(key), { lease, ifAbsent: writer % 2 === 0 })
        stored.push(key)
      }
    }
    const writers = Array.from({ length: 8 }, (_, writer) =>
      writeUntilRefused(writer).catch((error: unknown) => refusals.push(error)),
    )
    while (stored.length < 40) await setTimeout(1)
    await rename(at(generation0), at('stowage/gc/closed'))
    const atRename = await keys('many/')
    await Promise.all(writers)
    expect(refusals.length).toBeGreaterThan(0)
    for (const refusal of refusals) expect(refusal).toBeInstanceOf(LeaseExpired)
    expect(await keys('many/')).toEqual(stored.toSorted())
    // A rename that the kernel had begun may end just after: of each writer at most the one that it waited for.
    const late = stored.filter((key) => !atRename.includes(key)).map((key) => key.split('-')[0])
    expect(new Set(late).size).toBe(late.length)
  })

  test('a lease ends by the clock, after its last millisecond', async () => {
    const clock = manualClock()
    const timed = await filesystemDriver({ root, clock })
    const lease = { generation: 0, date: clock.now(), durationMs: 1000 }
    clock.advance(1000)
    await timed.write('a', Buffer.from('in time'), { lease })
    await timed.remove(['a'], { lease })
    expect(await timed.read('a')).toBeUndefined()
    await timed.write('a', Buffer.from('in time'), { lease })
    clock.advance(1)
    await expect(timed.write('a', Buffer.from('late'), { lease })).rejects.toThrow(LeaseExpired)
    await expect(timed.remove(['a'], { lease })).rejects.toThrow(LeaseExpired)
    expect(await timed.read('a')).toEqual(Buffer.from('in time'))
    expect(await filesIn(generation0)).toEqual([])
  })
})

describe('what is no object', () => {
  test('never shows: temporary files, empty folders, links, pipes, names that are no keys', async () => {
    await driver.write('real/a', Buffer.from('a'))
    for (const folder of ['stowage/gc/trash/1', 'lost+found', 'empty/folders/here', 'sp ace']) {
      await mkdir(at(folder), { recursive: true })
    }
    const own = ['stowage/tmp/x', `${generation0}/x`, 'stowage/gc/trash/1/x', 'lost+found/x']
    for (const key of own) await writeFile(at(key), 'x')
    await writeFile(at('sp ace/x'), 'x')
    await writeFile(at('real/sp ace'), 'x')
    await symlink(at('real/a'), at('real/link'))
    await symlink(at('real'), at('linked'))
    execFileSync('mkfifo', [at('real/pipe')])

    expect(await keys()).toEqual(['real/a'])
    expect(await names('')).toEqual(['real/'])
    expect(await names('real/')).toEqual(['a'])
    for (const key of [...own, 'real/link', 'real/pipe', 'real', 'empty/folders']) {
      expect((await driver.stat(key)).object).toBeUndefined()
      expect(await driver.read(key)).toBeUndefined()
      expect(await driver.stream(key)).toBeUndefined()
    }
    for (const folder of ['stowage/tmp/', 'stowage/gc/tmp/', 'stowage/gc/trash/', 'lost+found/']) {
      expect(await keys(folder)).toEqual([])
      expect(await names(folder)).toEqual([])
    }
  })

  test("the driver's own folders are refused as keys, and not removed from", async () => {
    for (const folder of ['stowage/tmp', 'stowage/gc/tmp', 'stowage/gc/trash', 'lost+found']) {
      for (const key of [folder, `${folder}/a`, `${folder}/a/b`]) {
        await expect(driver.write(key, Buffer.from('a'))).rejects.toThrow('not a storage key')
        await expect(driver.upload(key, {})).rejects.toThrow('not a storage key')
        await expect(driver.compose([], key)).rejects.toThrow('not a storage key')
      }
      await expect(driver.append(`${folder}/a`, 0)).rejects.toThrow('not a storage key')
    }
    await writeFile(at('stowage/tmp/x'), 'x')
    await driver.remove(['stowage/tmp/x', 'stowage/tmp'])
    expect(await filesIn('stowage/tmp')).toEqual(['x'])
    await driver.write('stowage/tmpx', Buffer.from('a'))
    expect(await keys('stowage/')).toEqual(['stowage/tmpx'])
  })

  test('a name longer than a file system takes is refused, and absent', async () => {
    const key = `a/${'k'.repeat(256)}`
    await expect(driver.write(key, Buffer.from('a'))).rejects.toThrow('255 bytes')
    expect(await driver.read(key)).toBeUndefined()
    await driver.write(`a/${'k'.repeat(255)}`, Buffer.from('a'))
    expect(await keys()).toHaveLength(1)
  })

  test('an object that stands in the way of another is named', async () => {
    await driver.write('a/b', Buffer.from('a'))
    await expect(driver.write('a', Buffer.from('a'))).rejects.toThrow('objects lie below it')
    await expect(driver.write('a', Buffer.from('a'), { ifAbsent: true })).rejects.toThrow(
      'objects lie below it',
    )
    await expect(driver.write('a/b/c', Buffer.from('a'))).rejects.toThrow('a part of its path is an object')
    expect(await keys()).toEqual(['a/b'])
    expect(await filesIn('stowage/tmp')).toEqual([])
  })

  test('an empty folder that a crash left does not stand in the way of an object', async () => {
    for (const options of [{}, { ifAbsent: true }]) {
      await mkdir(at('a'))
      await driver.write('a', Buffer.from('a'), options)
      expect(await keys()).toEqual(['a'])
      await driver.remove(['a'])
    }
  })
})

describe('temporary files', () => {
  const age = async (path: string, ageMs: number) => {
    const time = new Date(Date.now() - ageMs)
    await utimes(path, time, time)
  }

  test('a start removes those of a day ago, and spares younger ones', async () => {
    for (const folder of ['stowage/tmp', generation0]) {
      for (const [name, ageMs] of [['old', 25 * hourMs] as const, ['young', 23 * hourMs] as const]) {
        await writeFile(at(folder, name), 'x')
        await age(at(folder, name), ageMs)
      }
    }
    await mkdir(at('stowage/tmp/folder/inside'), { recursive: true })
    await age(at('stowage/tmp/folder'), 25 * hourMs)
    await filesystemDriver({ root })
    expect(await filesIn('stowage/tmp')).toEqual(['young'])
    expect(await filesIn(generation0)).toEqual(['young'])
  })

  test('a sweep removes what is older than it is told', async () => {
    await writeFile(at('stowage/tmp/old'), 'x')
    await age(at('stowage/tmp/old'), 2 * hourMs)
    await writeFile(at('stowage/tmp/young'), 'x')
    await driver.sweepTemporary?.(hourMs)
    expect(await filesIn('stowage/tmp')).toEqual(['young'])
  })

  test('their folder is made again where somebody removed it', async () => {
    await rmdir(at('stowage/tmp'))
    await driver.write('a', Buffer.from('a'))
    expect(await keys()).toEqual(['a'])
  })

  test('an upload whose file was swept fails, and leaves nothing visible', async () => {
    const upload = await driver.upload('a', {})
    await upload.write(Buffer.from('a'))
    await age(at('stowage/tmp', (await filesIn('stowage/tmp'))[0] ?? ''), 2 * hourMs)
    await driver.sweepTemporary?.(hourMs)
    for (const options of [{ lease: leaseOf(0) }, {}]) {
      await expect(upload.complete(options)).rejects.toThrow('ENOENT')
    }
    await upload.abort()
    expect(await keys()).toEqual([])
  })
})

describe('a copy', () => {
  const write = async (key: string, text: string) => {
    await driver.write(key, Buffer.from(text))
    return collect(driver.list(key))
  }

  test('is a second name of the same file: no byte is copied', async () => {
    const sources = await write('source', 'content')
    await driver.compose(sources, 'a/copy', { lease: leaseOf(0) })
    const [from, to] = [await stat(at('source')), await stat(at('a/copy'))]
    expect(to.ino).toBe(from.ino)
    expect(to.nlink).toBe(2)
  })

  test('does not change with what replaces its source, nor the other way round', async () => {
    const sources = await write('source', 'content')
    await driver.compose(sources, 'copy')
    await driver.write('source', Buffer.from('other'))
    expect(await driver.read('copy')).toEqual(Buffer.from('content'))
    await driver.compose(await collect(driver.list('source')), 'copy')
    await driver.write('copy', Buffer.from('third'))
    expect(await driver.read('source')).toEqual(Buffer.from('other'))
  })

  test('of an old source has bytes of its own, so that it looks as young as it is', async () => {
    await write('source', 'content')
    const old = new Date(Date.now() - hourMs)
    await utimes(at('source'), old, old)
    await driver.compose(await collect(driver.list('source')), 'copy')
    expect((await stat(at('copy'))).ino).not.toBe((await stat(at('source'))).ino)
    expect((await driver.stat('copy')).object?.modified).toBeGreaterThan(Date.now() - hourMs / 2)
    expect(await driver.read('copy')).toEqual(Buffer.from('content'))
  })

  test('over itself leaves the object and nothing else', async () => {
    const sources = await write('source', 'content')
    await driver.compose(sources, 'source', { lease: leaseOf(0) })
    expect(await driver.read('source')).toEqual(Buffer.from('content'))
    expect((await stat(at('source'))).nlink).toBe(1)
    expect(await filesIn(generation0)).toEqual([])
  })
})

describe('files and folders', () => {
  test('a key is a path, and its content the bytes alone', async () => {
    await driver.write('docker/registry/v2/a', Buffer.from('content'))
    expect(await readFile(at('docker/registry/v2/a'), 'utf8')).toBe('content')
  })

  test('folders go with their last object, those of the driver stay', async () => {
    await driver.write('a/b/c/d', Buffer.from('x'))
    await driver.write('stowage/gc/runs/1/owner', Buffer.from('x'))
    await driver.remove(['a/b/c/d', 'stowage/gc/runs/1/owner'])
    expect((await readdir(root, { recursive: true })).toSorted()).toEqual(
      ['stowage', 'stowage/gc', 'stowage/gc/tmp', generation0, 'stowage/tmp'].toSorted(),
    )
  })

  test('streams that are ended early, failed or never begun leave no file open', async () => {
    await driver.write('a', Buffer.alloc(3_000_000))
    const countOpen = async () => (await readdir('/dev/fd')).length
    const before = await countOpen()
    for (let round = 0; round < 20; round++) {
      const stream = await driver.stream('a')
      const iterator = stream?.body[Symbol.asyncIterator]()
      if (round % 2) await iterator?.next()
      await iterator?.return?.()
      const failed = await driver.stream('a', { signal: AbortSignal.abort(new Error('gone')) })
      if (failed) await expect(collect(failed.body)).rejects.toThrow('gone')
    }
    expect(await countOpen()).toBeLessThanOrEqual(before)
  })

  test('a round whose trash was taken away cannot remove any more', async () => {
    await mkdir(at('stowage/gc/trash/0000000003-0000000001'), { recursive: true })
    await driver.revokeRemovals?.('0000000003-0000000001')
    await driver.revokeRemovals?.('0000000003-0000000001')
    const [closed, ...rest] = await filesIn('stowage/gc/trash')
    expect(closed).toMatch(/^closed-0000000003-0000000001-[0-9a-f-]{36}$/)
    expect(rest).toEqual([])
    for (const wrong of ['', '../x', 'a/b', '..']) {
      await expect(driver.revokeRemovals?.(wrong)).rejects.toThrow('not ')
    }
  })

  test('a root that cannot be used is named, with the reason', async () => {
    await writeFile(at('file'), 'x')
    for (const [unusable, reason] of [[at('file'), 'ENOTDIR'] as const, ['/proc/none', 'ENOENT'] as const]) {
      const start = filesystemDriver({ root: unusable })
      await expect(start).rejects.toThrow(`the folder ${unusable} cannot be used for storage: ${reason}`)
    }
  })
})
