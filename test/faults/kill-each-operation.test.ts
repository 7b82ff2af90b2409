/** kill -9 of a real server before and after each storage operation of a push, on a file system. */
import { expect, test } from '@jest/globals'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import pMap from 'p-map'
import { systemClock } from '../../src/clock.ts'
import { expireUploads } from '../../src/registry/upload-expiry.ts'
import { registryClient } from '../support/image-transfer.ts'
import { keysOf, openTestRegistry } from '../support/registry.ts'
import {
  expectAcknowledged,
  expectNothingBroken,
  expectVerifiedBlobs,
  perform,
  pushUntilDeath,
  wholePush,
} from './pushes.ts'
import { openStorage, type ServerOptions } from './server.ts'
import { startServer } from './servers.ts'

const concurrency = 3
const steps = wholePush('each operation')
const dayMs = 86_400_000

test('a server killed at any storage operation of a push loses nothing, shows nothing broken, leaves nothing', async () => {
  const count = await withFolder(async (root) => {
    const server = await startServer({ storage: { root } })
    expect(await pushUntilDeath(server, steps)).toHaveLength(steps.length)
    const { operations } = await server.watched()
    await server.stop()
    return operations.length
  })
  const kills = Array.from({ length: count }, (_, index) => index + 1).flatMap((at) =>
    (['before', 'after'] as const).map((when) => ({ at, when })),
  )
  await pMap(kills, (kill) => withFolder((root) => killAndCheck({ storage: { root }, kill })), {
    concurrency,
  })
  console.log(`${count} operations, ${kills.length} kills`)
}, 300_000)

async function killAndCheck({ storage, kill }: ServerOptions & { storage: { root: string } }): Promise<void> {
  const acknowledged = await pushAndDie({ storage, ...(kill && { kill }) })
  await using at = await openTestRegistry({ driver: await openStorage(storage) })
  const client = registryClient(`127.0.0.1:${at.port}`)
  try {
    await expectVerifiedBlobs(at.driver)
    await expectNothingBroken(client, steps)
    await expectAcknowledged(client, acknowledged, steps[acknowledged.length])
    for (const step of steps) await perform(client, step)
    await expectAcknowledged(client, steps)
    await expectNothingBroken(client, steps)
    await expectNothingLeft(storage.root)
  } catch (cause) {
    throw new Error(`killed ${kill?.when} operation ${kill?.at}, ${acknowledged.length} steps acknowledged`, {
      cause,
    })
  }
}

async function pushAndDie(options: ServerOptions) {
  const server = await startServer(options).catch((error: unknown) => {
    if (error instanceof Error && error.message.includes('ended (SIGKILL)')) return undefined
    throw error
  })
  // It may die before it listens.
  if (!server) return []
  const acknowledged = await pushUntilDeath(server, steps)
  expect(await server.exited).toMatchObject({ signal: 'SIGKILL' })
  return acknowledged
}

/** Two days later: sessions have expired, and with them what the dead server left of its writes. */
async function expectNothingLeft(root: string): Promise<void> {
  const later = { ...systemClock, now: () => systemClock.now() + 2 * dayMs }
  const driver = await openStorage({ root }, later)
  await expireUploads({ driver, expiryMs: dayMs })
  expect(await keysOf(driver, 'stowage/uploads/')).toEqual([])
  const left = await readdir(join(root, 'stowage'), { recursive: true, withFileTypes: true })
  const files = left
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
  const kept = /^stowage\/(gc\/claim|referrers-complete|repositories\/.*\/_referrers\/.*)$/
  expect(files.filter((path) => !kept.test(path))).toEqual([])
  await driver.close?.()
}

async function withFolder<T>(use: (root: string) => Promise<T>): Promise<T> {
  const root = await mkdtemp(join(tmpdir(), 'stowage-faults-'))
  try {
    return await use(root)
  } finally {
    await rm(root, { recursive: true, force: true })
  }
}
