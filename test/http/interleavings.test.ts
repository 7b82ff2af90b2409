/**
 * Requests at the same time, their storage operations in any order: what each is answered, and what is there in the
 * end, is what some order of the requests, one after the other, gives.
 */
import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { isDeepStrictEqual } from 'node:util'
import { digestOf } from '../../src/oci/digest.ts'
import { OciError } from '../../src/oci/errors.ts'
import { parseRepositoryName, parseTag } from '../../src/oci/names.ts'
import { openRegistry, type Registry } from '../../src/registry/registry.ts'
import type { Driver } from '../../src/storage/driver.ts'
import { memoryDriver } from '../../src/storage/memory.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { manualClock } from '../support/manual-clock.ts'
import { bytesOf } from '../support/registry.ts'
import { config, digests, image, manifests, registryModel, type Op } from '../support/registry-model.ts'

const name = 'a'
const tag = fc.constantFrom('t', 'u')
const position = fc.nat(manifests.length - 1)
const kind = (text: Op['kind']) => fc.constant(text)
const preparation: fc.Arbitrary<Op> = fc.oneof(
  fc.record({ kind: kind('put tag'), name: fc.constant(name), tag, position }),
  fc.record({ kind: kind('put digest'), name: fc.constant(name), position }),
)
// Not `delete blob`: who deletes the layers of an image while it is pushed gets an image without them.
const op: fc.Arbitrary<Op> = fc.oneof(
  preparation,
  preparation,
  fc.record({ kind: kind('push blob'), name: fc.constant(name) }),
  fc.record({ kind: kind('delete tag'), name: fc.constant(name), tag }),
  fc.record({ kind: kind('delete digest'), name: fc.constant(name), position }),
  fc.record({ kind: kind('delete digest'), name: fc.constant(name), position }),
  fc.record({ kind: kind('get tag'), name: fc.constant(name), tag }),
  fc.record({ kind: kind('get digest'), name: fc.constant(name), position }),
)

/** Each operation waits until the scheduler lets it happen. */
function scheduled(driver: Driver, scheduler: fc.Scheduler, isOn: () => boolean): Driver {
  const turn = async (label: string) => (isOn() ? scheduler.schedule(Promise.resolve(), label) : undefined)
  async function* inTurns<T>(label: string, items: AsyncIterable<T>) {
    await turn(label)
    for await (const item of items) {
      yield item
      await turn(label)
    }
  }
  return {
    ...driver,
    stat: async (key) => turn(`stat ${key}`).then(() => driver.stat(key)),
    read: async (key, options) => turn(`read ${key}`).then(() => driver.read(key, options)),
    write: async (key, bytes, options) => turn(`write ${key}`).then(() => driver.write(key, bytes, options)),
    remove: async (keys, options) =>
      turn(`remove ${keys.join(' ')}`).then(() => driver.remove(keys, options)),
    list: (prefix, options) => inTurns(`list ${prefix}`, driver.list(prefix, options)),
    listNames: (folder, options) => inTurns(`names ${folder}`, driver.listNames(folder, options)),
  }
}

/** The requests as the HTTP layer makes them, answered as the model does. */
async function perform(registry: Registry, { kind, tag, position = 0 }: Op): Promise<unknown> {
  const repository = parseRepositoryName(name)
  const digest = digests[position] ?? config
  const reference = tag === undefined ? { digest } : { tag: parseTag(tag) }
  const perKind: Record<string, () => Promise<unknown>> = {
    async 'push blob'() {
      const chunks = (async function* () {
        yield Buffer.from('{}')
      })()
      await registry.uploads.push(repository, config, { chunks, size: 2 })
      return '201'
    },
    'delete tag': async () => ((await registry.tags.remove(repository, parseTag(tag ?? ''))) ? '202' : '404'),
    'delete digest': async () => ((await registry.manifests.remove(repository, digest)) ? '202' : '404'),
    async put() {
      const bytes = bytesOf(manifests[position] ?? image)
      const push = { reference, tags: [], bytes, contentType: undefined }
      return `201 ${(await registry.manifests.put(repository, push)).digest}`
    },
    async get() {
      const content = await registry.manifests.get(repository, reference)
      return content ? `200 ${content.digest}` : '404'
    },
    async list() {
      const { items } = await registry.tags.list(repository, { limit: 100 })
      return items.length > 0 || (await registry.repositories.exists(repository)) ? items : '404'
    },
    referrers: async () =>
      (await registry.referrers.list(repository, digestOf(bytesOf(image)))).map((one) => one.digest),
  }
  const run = perKind[kind] ?? perKind[kind.split(' ')[0] ?? '']
  try {
    return await run?.()
  } catch (error) {
    if (error instanceof OciError) return String(error.status)
    throw error
  }
}

/** All that can be seen of the repository. */
const observations: readonly Op[] = [
  ...['t', 'u'].map((tag): Op => ({ kind: 'get tag', name, tag })),
  ...manifests.map((_, position): Op => ({ kind: 'get digest', name, position })),
  { kind: 'list', name },
  { kind: 'referrers', name },
]

function* permutations(indices: readonly number[]): Generator<number[]> {
  if (indices.length === 0) yield []
  for (const first of indices) {
    for (const rest of permutations(indices.filter((one) => one !== first))) yield [first, ...rest]
  }
}

test('requests at the same time are answered as if they came one after the other', async () => {
  const log = createLog({ level: 'error', format: 'json', destination: { write: () => undefined } })
  const requests = fc.array(op, { minLength: 2, maxLength: 4 })
  await fc.assert(
    fc.asyncProperty(
      fc.array(preparation, { maxLength: 3 }),
      requests,
      fc.scheduler(),
      async (before, during, scheduler) => {
        let isOn = false
        const driver = scheduled(memoryDriver(), scheduler, () => isOn)
        const options = {
          driver,
          clock: manualClock(),
          log,
          claimOwner: 'test',
          manifestMaxBytes: 2 ** 20,
          uploadExpiryMs: 1e9,
        }
        const servers = [await openRegistry(options), await openRegistry(options)]
        const serverOf = (client: number) => servers[client % 2] as Registry
        const prepared: Op[] = [{ kind: 'push blob', name }, ...before]
        for (const step of prepared) await perform(serverOf(0), step)

        isOn = true
        const answered = during.map(async (step, client) => perform(serverOf(client), step))
        const answers = await scheduler.waitFor(Promise.all(answered))
        isOn = false
        const seen: unknown[] = []
        for (const step of observations) seen.push(await perform(serverOf(0), step))
        for (const server of servers) server.close()

        const explains = (order: readonly number[]) => {
          const model = registryModel()
          for (const step of prepared) model(step)
          const isSame = (index: number) => {
            const step = during[index] as Op
            const given = model(step)
            // Two that delete the same may both be told that they did.
            return given === answers[index] || (step.kind.startsWith('delete') && answers[index] === '202')
          }
          return order.every(isSame) && isDeepStrictEqual(observations.map(model), seen)
        }
        expect({ answers, seen, isExplained: permutations([...during.keys()]).some(explains) }).toEqual({
          answers,
          seen,
          isExplained: true,
        })
      },
    ),
    { numRuns: 300 },
  )
})
