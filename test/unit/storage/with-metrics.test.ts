import { describe, expect, test } from '@jest/globals'
import { systemClock } from '../../../src/clock.ts'
import { LeaseExpired, StorageUnavailable, type Driver } from '../../../src/storage/driver.ts'
import { memoryDriver } from '../../../src/storage/memory.ts'
import { contractCases, runContractCase } from '../../../src/storage/verify-driver.ts'
import { withMetrics } from '../../../src/storage/with-metrics.ts'
import type { StorageMetrics } from '../../../src/telemetry/metrics.ts'
import { manualClock } from '../../support/manual-clock.ts'

/** What was counted, as `verb outcome` and the seconds where there are any. */
function counting() {
  const counted: string[] = []
  const uploads = { inFlight: 0 }
  const metrics: StorageMetrics = {
    operationEnded: (verb, outcome, seconds) =>
      counted.push([verb, outcome, ...(seconds === undefined ? [] : [seconds])].join(' ')),
    uploadBegan: () => uploads.inFlight++,
    uploadEnded: () => uploads.inFlight--,
  }
  return { counted, uploads, metrics }
}

function measure(driver: Driver) {
  const clock = manualClock()
  const counts = counting()
  return { ...counts, clock, driver: withMetrics(driver, { clock, metrics: counts.metrics }) }
}

const bytes = Buffer.from('some bytes')

describe('the contract holds for a driver that is measured', () => {
  const driver = withMetrics(memoryDriver(), { clock: systemClock, metrics: counting().metrics })
  for (const contractCase of contractCases) {
    test(contractCase.name, async () => {
      await runContractCase(contractCase, { driver, second: driver, generation: 0 }, 'contract/')
    })
  }
})

test('each verb is counted once, with how long it took', async () => {
  const { driver, counted } = measure(memoryDriver())
  await driver.write('a', bytes)
  await driver.stat('a')
  await driver.read('none')
  for await (const _ of driver.list('')) break
  for await (const _ of driver.listNames('none/'));
  const listed = await Array.fromAsync(driver.list(''))
  await driver.compose(listed, 'b')
  await driver.remove(['a', 'none'])
  await driver.abortUpload({ key: 'none' }, { begunBefore: 0 })
  expect(counted).toEqual([
    'write ok 0',
    'stat ok 0',
    'read ok 0',
    'list ok 0',
    'list_names ok 0',
    'list ok 0',
    'compose ok 0',
    'remove ok 0',
    'abort_upload ok 0',
  ])
})

test('a verb that a storage does not have it does not have when it is measured, either', () => {
  const { presign: _, sweepTemporary: __, revokeRemovals: ___, ...without } = memoryDriver()
  const { driver } = measure(without)
  for (const verb of ['presign', 'sweepTemporary', 'revokeRemovals']) expect(driver).not.toHaveProperty(verb)
})

test.each([
  ['refused', new LeaseExpired('a')],
  ['unavailable', new StorageUnavailable('later')],
  ['aborted', AbortSignal.abort().reason as Error],
  ['error', new Error('broken')],
])('what fails is counted as %s, and thrown on', async (outcome, error) => {
  const { driver, counted } = measure({ ...memoryDriver(), stat: () => Promise.reject(error) })
  await expect(driver.stat('a')).rejects.toBe(error)
  expect(counted).toEqual([`stat ${outcome} 0`])
})

test('a condition that does not hold is refused', async () => {
  const { driver, counted } = measure(memoryDriver())
  await driver.write('a', bytes, { ifAbsent: true })
  await expect(driver.write('a', bytes, { ifAbsent: true })).rejects.toThrow('condition')
  expect(counted).toEqual(['write ok 0', 'write refused 0'])
})

describe('a listing', () => {
  test('is timed to its first name: what its reader does in between is not the storage', async () => {
    const inner = memoryDriver()
    for (const key of ['a', 'b']) await inner.write(key, bytes)
    const { driver, counted, clock } = measure({
      ...inner,
      async *list(prefix, options) {
        clock.advance(2_000)
        yield* inner.list(prefix, options)
      },
    })
    for await (const _ of driver.list('')) clock.advance(60_000)
    expect(counted).toEqual(['list ok 2'])
  })

  test('that breaks off in the middle has failed', async () => {
    const { driver, counted } = measure({
      ...memoryDriver(),
      async *listNames() {
        yield 'a'
        throw new Error('broken')
      },
    })
    await expect(Array.fromAsync(driver.listNames(''))).rejects.toThrow('broken')
    expect(counted).toEqual(['list_names error 0'])
  })
})

describe('a stream', () => {
  test('that breaks off in the middle is counted beside its beginning', async () => {
    const inner = memoryDriver()
    await inner.write('a', bytes)
    const { driver, counted } = measure({
      ...inner,
      async stream(key, options) {
        const found = await inner.stream(key, options)
        return (
          found && {
            ...found,
            body: (async function* () {
              yield bytes
              throw new StorageUnavailable('broken')
            })(),
          }
        )
      },
    })
    const stream = await driver.stream('a')
    await expect(Array.fromAsync(stream?.body ?? [])).rejects.toThrow('broken')
    expect(counted).toEqual(['stream ok 0', 'stream_body unavailable'])
  })

  test.each(['before its first byte', 'after it'])('that is given up %s is freed', async (when) => {
    const inner = memoryDriver()
    await inner.write('a', bytes)
    let ended = 0
    const { driver } = measure({
      ...inner,
      async stream(key, options) {
        const found = await inner.stream(key, options)
        const chunks = found?.body[Symbol.asyncIterator]()
        return (
          found &&
          chunks && {
            ...found,
            body: {
              [Symbol.asyncIterator]: () => ({
                next: () => chunks.next(),
                return: () => Promise.resolve({ done: true as const, value: ended++ }),
              }),
            },
          }
        )
      },
    })
    const body = (await driver.stream('a'))?.body[Symbol.asyncIterator]()
    if (when === 'after it') await body?.next()
    await body?.return?.()
    expect(ended).toBe(1)
  })
})

describe('uploads in flight', () => {
  test('are counted from their beginning to their completion', async () => {
    const { driver, counted, uploads } = measure(memoryDriver())
    const upload = await driver.upload('a', {})
    const append = await driver.append('b/', 0)
    expect(uploads.inFlight).toBe(2)
    for (const writer of [upload, append]) await writer.write(bytes)
    await upload.complete()
    await upload.abort()
    await append.close()
    expect(uploads.inFlight).toBe(0)
    expect(counted).toEqual(['upload ok 0', 'append ok 0', 'complete ok 0', 'close ok 0'])
  })

  test('one that is given up has ended, also where that fails', async () => {
    const inner = memoryDriver()
    const { driver, uploads } = measure({
      ...inner,
      upload: async (key, options) => ({
        ...(await inner.upload(key, options)),
        abort: () => Promise.reject(new Error('broken')),
      }),
    })
    const upload = await driver.upload('a', {})
    await expect(upload.abort()).rejects.toThrow('broken')
    expect(uploads.inFlight).toBe(0)
  })

  test('one whose lease was over goes on until it is completed with a newer one', async () => {
    const inner = memoryDriver()
    const { driver, counted, uploads } = measure(inner)
    const upload = await driver.upload('a', {})
    await upload.write(bytes)
    const { date } = await inner.stat('a')
    const over = { generation: 0, date: date - 60_000, durationMs: 1_000 }
    await expect(upload.complete({ lease: over })).rejects.toThrow(LeaseExpired)
    expect(uploads.inFlight).toBe(1)
    await upload.complete({ lease: { ...over, date } })
    expect(uploads.inFlight).toBe(0)
    expect(counted).toEqual(['upload ok 0', 'complete refused 0', 'complete ok 0'])
  })

  test('bytes that the storage does not take are counted as they fail', async () => {
    const inner = memoryDriver()
    const { driver, counted } = measure({
      ...inner,
      append: async (prefix, offset) => ({
        ...(await inner.append(prefix, offset)),
        write: () => Promise.reject(new StorageUnavailable('full')),
      }),
    })
    const append = await driver.append('b/', 0)
    await expect(append.write(bytes)).rejects.toThrow('full')
    expect(counted).toEqual(['append ok 0', 'append_body unavailable'])
  })
})
