import { describe, expect, test } from '@jest/globals'
import { setImmediate as tick } from 'node:timers/promises'
import { openHealth, type Health, type HealthOptions } from '../../../src/telemetry/health.ts'
import { createLog } from '../../../src/telemetry/log.ts'
import { manualClock } from '../../support/manual-clock.ts'

type Outcome = 'ok' | 'hang' | Error

/** A health whose storage answers as it is told to, on a clock that is moved by hand. */
function openTestHealth(options: Partial<HealthOptions> = {}) {
  const clock = manualClock()
  const lines: string[] = []
  const log = createLog({
    level: 'info',
    format: 'json',
    destination: { write: (line) => lines.push(line) },
  })
  const health: Health = openHealth({
    clock,
    log,
    intervalMs: 5_000,
    deadlineMs: 1_000,
    failures: 3,
    failingMs: 12_000,
    ...options,
  })
  let storage: Outcome = 'ok'
  const checks: AbortSignal[] = []
  const check = (signal: AbortSignal) => {
    checks.push(signal)
    if (storage === 'ok') return Promise.resolve()
    if (storage !== 'hang') return Promise.reject(storage)
    // As a mount that is gone: not even the abort ends it.
    return new Promise<void>(() => undefined)
  }
  return {
    health,
    checks,
    messages: () => lines.map((line) => (JSON.parse(line) as { level: string; msg: string }).msg),
    watch: async () => {
      health.watch(check)
      await settled()
    },
    is: (outcome: Outcome) => {
      storage = outcome
    },
    /** Moves the clock on, a second at a time. */
    async pass(seconds: number) {
      for (let second = 0; second < seconds; second++) {
        clock.advance(1_000)
        await settled()
      }
    },
    isReady: () => health.readiness().isReady,
    [Symbol.dispose]: () => health.close(),
  }
}

async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await tick()
}

const broken = new Error('connect ECONNREFUSED 127.0.0.1:9000\nand more')

describe('at the start', () => {
  test('it is not ready before the storage was asked', () => {
    using at = openTestHealth()
    expect(at.health.readiness()).toEqual({
      isReady: false,
      reason: 'starting: the storage has not answered yet',
      failedChecks: 0,
    })
  })

  test('the first answer makes it ready, and is asked for at once', async () => {
    using at = openTestHealth()
    await at.watch()
    expect(at.health.readiness()).toEqual({
      isReady: true,
      reason: 'the storage answers',
      failedChecks: 0,
      secondsSinceSuccess: 0,
    })
    expect(at.messages()).toEqual(['ready'])
  })

  test('it stays not ready while the storage has never answered', async () => {
    using at = openTestHealth()
    at.is(broken)
    await at.watch()
    await at.pass(60)
    expect(at.health.readiness()).toMatchObject({
      isReady: false,
      reason: 'starting: the storage has not answered yet',
      lastFailure: 'connect ECONNREFUSED 127.0.0.1:9000',
    })
    expect(at.messages()).toEqual([])
    at.is('ok')
    await at.pass(5)
    expect(at.isReady()).toBe(true)
  })
})

describe('a server that was ready', () => {
  test('stays so through failures that are too few', async () => {
    using at = openTestHealth({ failures: 4 })
    await at.watch()
    at.is(broken)
    await at.pass(15)
    expect(at.health.readiness()).toMatchObject({ isReady: true, failedChecks: 3 })
    await at.pass(5)
    expect(at.health.readiness()).toMatchObject({ isReady: false, failedChecks: 4 })
  })

  test('stays so through failures that have not lasted long enough', async () => {
    using at = openTestHealth({ failures: 1, failingMs: 8_000 })
    await at.watch()
    at.is(broken)
    await at.pass(10)
    expect(at.health.readiness()).toMatchObject({ isReady: true, failedChecks: 2, secondsSinceSuccess: 10 })
    await at.pass(5)
    expect(at.isReady()).toBe(false)
  })

  test('begins to count anew after a success', async () => {
    using at = openTestHealth()
    await at.watch()
    for (let round = 0; round < 5; round++) {
      at.is(broken)
      await at.pass(10)
      at.is('ok')
      await at.pass(5)
      expect(at.health.readiness()).toMatchObject({ isReady: true, failedChecks: 0 })
    }
    expect(at.messages()).toEqual(['ready'])
  })

  test('is not ready once they are enough, says why, and is again with the next success', async () => {
    using at = openTestHealth()
    await at.watch()
    at.is(broken)
    await at.pass(20)
    expect(at.health.readiness()).toEqual({
      isReady: false,
      reason: 'the storage does not answer',
      failedChecks: 4,
      lastFailure: 'connect ECONNREFUSED 127.0.0.1:9000',
      secondsSinceSuccess: 20,
    })
    at.is('ok')
    await at.pass(5)
    expect(at.isReady()).toBe(true)
    expect(at.messages()).toEqual(['ready', 'not ready: the storage does not answer', 'ready'])
  })
})

describe('a storage that hangs', () => {
  test('fails a check at its deadline, which also asks it to end', async () => {
    using at = openTestHealth()
    await at.watch()
    at.is('hang')
    await at.pass(5)
    expect(at.checks).toHaveLength(2)
    expect(at.checks[1]?.aborted).toBe(false)
    await at.pass(1)
    expect(at.checks[1]?.aborted).toBe(true)
    expect(at.health.readiness()).toMatchObject({
      isReady: true,
      failedChecks: 1,
      lastFailure: 'no answer within 1000 ms',
    })
  })

  test('is not asked again while it has not answered, and fails each time', async () => {
    using at = openTestHealth()
    await at.watch()
    at.is('hang')
    await at.pass(60)
    expect(at.checks).toHaveLength(2)
    expect(at.health.readiness()).toMatchObject({ isReady: false, failedChecks: 10 })
  })
})

describe('the end', () => {
  test('a server that is told to stop is not ready, whatever the storage says', async () => {
    using at = openTestHealth()
    await at.watch()
    at.health.drain()
    await at.pass(5)
    expect(at.health.readiness()).toMatchObject({
      isReady: false,
      reason: 'stopping: running requests may end',
    })
  })

  test('after close the storage is not asked any more', async () => {
    using at = openTestHealth()
    await at.watch()
    at.health.close()
    await at.pass(60)
    expect(at.checks).toHaveLength(1)
  })
})
