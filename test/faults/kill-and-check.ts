/** One life of a server that is killed in the middle of a push, and what a new one finds after it. */
import { expect } from '@jest/globals'
import { registryClient } from '../support/image-transfer.ts'
import { openTestRegistry } from '../support/registry.ts'
import {
  expectAcknowledged,
  expectNothingBroken,
  expectVerifiedBlobs,
  perform,
  pushUntilDeath,
  type Step,
} from './pushes.ts'
import { openStorage, type Kill, type ServerOptions } from './server.ts'
import { startServer } from './servers.ts'

export interface Life extends ServerOptions {
  readonly steps: readonly Step[]
  /** Credentials of the storage. */
  readonly env?: Readonly<Record<string, string>>
}

/** The storage operations of a push that nothing disturbs, each as `verb key`. */
export async function operationsOf({ steps, env, ...options }: Life): Promise<readonly string[]> {
  const server = await startServer(options, env)
  expect(await pushUntilDeath(server, steps)).toHaveLength(steps.length)
  const { operations } = await server.watched()
  await server.stop()
  return operations
}

/** Before and after each of them. */
export function killsAt(operations: readonly number[]): Kill[] {
  return operations.flatMap((at) => [
    { at, when: 'before' },
    { at, when: 'after' },
  ])
}

/**
 * The server is killed, and a new one opens the same storage: what was acknowledged is there, nothing is broken, and
 * the same push succeeds.
 */
export async function killAndCheck(life: Life & { readonly kill: Kill }): Promise<void> {
  const { steps, storage, kill } = life
  const acknowledged = await pushAndDie(life)
  const driver = await openStorage(storage)
  try {
    await using at = await openTestRegistry({ driver })
    const client = registryClient(`127.0.0.1:${at.port}`)
    await expectVerifiedBlobs(driver)
    await expectNothingBroken(client, steps)
    await expectAcknowledged(client, acknowledged, steps[acknowledged.length])
    for (const step of steps) await perform(client, step)
    await expectAcknowledged(client, steps)
  } catch (cause) {
    throw new Error(`killed ${kill.when} operation ${kill.at}, ${acknowledged.length} steps acknowledged`, {
      cause,
    })
  } finally {
    await driver.close?.()
  }
}

async function pushAndDie({ steps, env, ...options }: Life): Promise<Step[]> {
  const server = await startServer(options, env).catch((error: unknown) => {
    if (error instanceof Error && error.message.includes('ended (SIGKILL)')) return undefined
    throw error
  })
  // It may die before it listens.
  if (!server) return []
  const acknowledged = await pushUntilDeath(server, steps)
  expect(await server.exited).toMatchObject({ signal: 'SIGKILL' })
  return acknowledged
}
