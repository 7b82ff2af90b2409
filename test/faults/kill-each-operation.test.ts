/** kill -9 of a real server before and after each storage operation of a push, on a file system. */
import { test } from '@jest/globals'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pMap from 'p-map'
import { killAndCheck, killsAt, operationsOf } from './kill-and-check.ts'
import { expectNothingLeftIn } from './leftovers.ts'
import { wholePush } from './pushes.ts'

const concurrency = 3
const steps = wholePush('each operation')

test('a server killed at any storage operation of a push loses nothing, shows nothing broken, leaves nothing', async () => {
  const operations = await withFolder((root) => operationsOf({ storage: { root }, steps }))
  const kills = killsAt(operations.map((_, index) => index + 1))
  await pMap(
    kills,
    (kill) =>
      withFolder(async (root) => {
        await killAndCheck({ storage: { root }, steps, kill })
        await expectNothingLeftIn(root)
      }),
    { concurrency },
  )
  console.log(`${operations.length} operations, ${kills.length} kills`)
}, 300_000)

async function withFolder<T>(use: (root: string) => Promise<T>): Promise<T> {
  const root = await mkdtemp(join(tmpdir(), 'stowage-faults-'))
  try {
    return await use(root)
  } finally {
    await rm(root, { recursive: true, force: true })
  }
}
