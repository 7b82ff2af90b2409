/** kill -9 at random moments while several clients push in a loop. The seed is printed; STOWAGE_SEED repeats it. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { createHash, randomInt } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { registryClient } from '../support/image-transfer.ts'
import { openTestRegistry } from '../support/registry.ts'
import { credentialsEnv, startMinio, type S3Server } from '../support/s3-servers.ts'
import { expectNothingLeftBelow, expectNothingLeftIn } from './leftovers.ts'
import {
  expectAcknowledged,
  expectNothingBroken,
  expectVerifiedBlobs,
  perform,
  type Step,
  wholePush,
} from './pushes.ts'
import { openStorage, type StorageOptions } from './server.ts'
import { startServer, type FaultServer } from './servers.ts'

const seed = Number(process.env['STOWAGE_SEED'] ?? randomInt(1e9))
const clients = 3
const rounds = 20

/** Numbers from 0 to 1, the same for the same seed. */
function randomOf(text: string): number {
  return createHash('sha256').update(`${seed} ${text}`).digest().readUInt32BE(0) / 2 ** 32
}

interface Client {
  readonly pushes: Step[][]
  /** What was acknowledged, in its order; the step after it may have happened or not. */
  readonly acknowledged: Step[]
  underWay?: Step
}

/** One push after the other until the server dies. Each client has repositories of its own, and tags that it moves. */
async function pushForever(server: FaultServer, client: Client, id: string): Promise<void> {
  for (let number = 0; ; number++) {
    const steps = wholePush(`${seed} ${id} ${number}`).map((step) => inRepositoriesOf(id, step))
    client.pushes.push(steps)
    for (const step of steps) {
      client.underWay = step
      try {
        await perform(registryClient(server.registry), step)
      } catch (error) {
        const exit = await Promise.race([server.exited, delay(2_000, undefined, { ref: false })])
        if (exit?.signal === 'SIGKILL') return
        throw error
      }
      client.acknowledged.push(step)
    }
  }
}

function inRepositoriesOf(id: string, step: Step): Step {
  const name = `${id}/${step.name}`
  return step.kind === 'mount' ? { ...step, name, from: `${id}/${step.from}` } : { ...step, name }
}

async function killInRounds(
  storage: StorageOptions,
  env: Readonly<Record<string, string>> = {},
): Promise<number> {
  let acknowledged = 0
  for (let round = 0; round < rounds; round++) {
    const server = await startServer({ storage }, env)
    const all = Array.from({ length: clients }, (): Client => ({ pushes: [], acknowledged: [] }))
    const pushing = all.map((client, id) => pushForever(server, client, `round-${round}/client-${id}`))
    await delay(20 + 300 * randomOf(`round ${round}`))
    server.kill('SIGKILL')
    await Promise.all([...pushing, server.exited])
    await checkRound(storage, all)
    acknowledged += all.reduce((sum, client) => sum + client.acknowledged.length, 0)
  }
  const driver = await openStorage(storage)
  await expectVerifiedBlobs(driver)
  await driver.close?.()
  return acknowledged
}

async function checkRound(storage: StorageOptions, all: readonly Client[]): Promise<void> {
  const driver = await openStorage(storage)
  try {
    await using at = await openTestRegistry({ driver })
    const client = registryClient(`127.0.0.1:${at.port}`)
    for (const { acknowledged, underWay } of all) await expectAcknowledged(client, acknowledged, underWay)
    // The push that was cut off succeeds when it is done again.
    for (const { pushes } of all) for (const step of pushes.at(-1) ?? []) await perform(client, step)
    for (const { pushes } of all) await expectNothingBroken(client, pushes.at(-1) ?? [])
  } finally {
    await driver.close?.()
  }
}

describe(`${rounds} servers that are killed while ${clients} clients push (STOWAGE_SEED=${seed})`, () => {
  let root: string
  let minio: S3Server

  beforeAll(async () => {
    console.log(`STOWAGE_SEED=${seed}`)
    root = await mkdtemp(join(tmpdir(), 'stowage-random-'))
    minio = await startMinio()
    await minio.createBucket('random')
    Object.assign(process.env, credentialsEnv(minio))
  }, 60_000)

  afterAll(async () => {
    for (const name of Object.keys(credentialsEnv(minio))) Reflect.deleteProperty(process.env, name)
    await minio.stop()
    await rm(root, { recursive: true, force: true })
  })

  test('lose nothing on a file system', async () => {
    const acknowledged = await killInRounds({ root })
    await expectNothingLeftIn(root)
    console.log(`file system: ${acknowledged} steps were acknowledged`)
    expect(acknowledged).toBeGreaterThan(rounds)
  }, 300_000)

  test('lose nothing on S3', async () => {
    const { endpoint, region } = minio
    const acknowledged = await killInRounds({ bucket: 'random', endpoint, region, pathStyle: true })
    await delay(2_100)
    await expectNothingLeftBelow(minio, 'random', '')
    console.log(`S3: ${acknowledged} steps were acknowledged`)
    expect(acknowledged).toBeGreaterThan(rounds)
  }, 300_000)
})
