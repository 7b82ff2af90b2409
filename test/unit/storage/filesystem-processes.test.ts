/** Real processes on one directory. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { filesystemDriver } from '../../../src/storage/filesystem.ts'
import { runOk, start } from '../../support/processes.ts'

const program = fileURLToPath(new URL('filesystem-racer.ts', import.meta.url))
const own = ['stowage', 'stowage/gc', 'stowage/gc/tmp', 'stowage/gc/tmp/0000000000', 'stowage/tmp']

let root: string

beforeEach(async () => {
  root = join(await mkdtemp(join(tmpdir(), 'stowage-processes-')), 'new')
})

afterEach(async () => {
  await rm(join(root, '..'), { recursive: true, force: true })
})

test('two processes that create the same objects while a third empties their folders: each has one creator', async () => {
  const count = 150
  const race = (role: string) => runOk(process.execPath, [program, root, role, String(count)])
  const [first, second, churned] = await Promise.all([race('create'), race('create'), race('churn')])
  const created = [first, second].map((printed) => JSON.parse(printed) as number[])
  expect(created.flat().toSorted((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, index) => index))
  expect(JSON.parse(churned)).toBeGreaterThan(0)

  const driver = await filesystemDriver({ root })
  const keys: string[] = []
  for await (const { key } of driver.list('race/')) keys.push(key)
  expect(keys).toHaveLength(count)
  await driver.remove(keys)
  expect((await readdir(root, { recursive: true })).toSorted()).toEqual(own)
}, 60_000)

test('a process that is killed amid an upload, an append and a write leaves nothing that shows', async () => {
  const driver = await filesystemDriver({ root })
  const victim = await start(process.execPath, [program, root, 'linger', '0'], { ready: /ready/ })
  expect((await readdir(join(root, 'stowage/tmp'))).length).toBeGreaterThanOrEqual(2)
  victim.kill('SIGKILL')
  await victim.exited

  const restarted = await filesystemDriver({ root })
  const names: string[] = []
  for await (const name of restarted.listNames('')) names.push(name)
  expect(names).toEqual(['stored'])
  expect(await driver.read('stored')).toEqual(Buffer.from('answered before the end'))
  await restarted.sweepTemporary?.(-1)
  expect((await readdir(root, { recursive: true })).toSorted()).toEqual([...own, 'stored'].toSorted())
}, 60_000)
