/** Pushes, deletes, tags and lists in any order, on two servers: what they answer is what a few maps say. */
import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { digestOf } from '../../src/oci/digest.ts'
import { memoryDriver } from '../../src/storage/memory.ts'
import {
  config,
  digests,
  image,
  manifests,
  registryModel,
  subject,
  type Op,
} from '../support/registry-model.ts'
import { jsonOf, openTestRegistry, pushBlob, putManifest, type TestRegistry } from '../support/registry.ts'

// Few, and one of them often, so that requests meet.
const name = fc.constantFrom('a', 'a', 'a', 'a-b', 'a/b')
const tag = fc.constantFrom('t', 't', 't-1', 't.1')
const position = fc.nat(manifests.length - 1)
const op: fc.Arbitrary<Op> = fc.oneof(
  fc.record({ kind: fc.constant<Op['kind']>('push blob'), name }),
  fc.record({ kind: fc.constant<Op['kind']>('delete blob'), name }),
  fc.record({ kind: fc.constant<Op['kind']>('put tag'), name, tag, position }),
  fc.record({ kind: fc.constant<Op['kind']>('put tag'), name, tag, position }),
  fc.record({ kind: fc.constant<Op['kind']>('put digest'), name, position }),
  fc.record({ kind: fc.constant<Op['kind']>('delete tag'), name, tag }),
  fc.record({ kind: fc.constant<Op['kind']>('delete digest'), name, position }),
  fc.record({ kind: fc.constant<Op['kind']>('get tag'), name, tag }),
  fc.record({ kind: fc.constant<Op['kind']>('get digest'), name, position }),
  fc.record({
    kind: fc.constant<Op['kind']>('list'),
    name,
    n: fc.option(fc.nat(3), { nil: undefined }),
    last: fc.option(tag, { nil: undefined }),
  }),
  fc.record({
    kind: fc.constant<Op['kind']>('catalog'),
    n: fc.option(fc.nat(3), { nil: undefined }),
    last: fc.option(name, { nil: undefined }),
  }),
  fc.record({ kind: fc.constant<Op['kind']>('referrers'), name }),
)
/** What a server answers to the same. */
function requestsTo(at: Pick<TestRegistry, 'send'>) {
  const { send } = at
  const referenceOf = ({ tag, position = 0 }: Op) => tag ?? digests[position] ?? ''
  const pageOf = ({ n, last }: Op) =>
    new URLSearchParams({
      ...(n === undefined ? {} : { n: String(n) }),
      ...(last === undefined ? {} : { last }),
    }).toString()

  async function put(op: Op) {
    const manifest = manifests[op.position ?? 0] ?? image
    const { status, headers } = await putManifest(at, op.name ?? '', referenceOf(op), manifest)
    return status === 201 ? `201 ${String(headers['docker-content-digest'])}` : String(status)
  }
  async function remove(op: Op) {
    return String((await send(`DELETE /v2/${op.name}/manifests/${referenceOf(op)}`)).status)
  }
  async function get(op: Op) {
    const { status, headers, body } = await send(`GET /v2/${op.name}/manifests/${referenceOf(op)}`)
    if (status !== 200) return String(status)
    expect(headers['docker-content-digest']).toBe(digestOf(body))
    return `200 ${digestOf(body)}`
  }
  const perform: Record<Op['kind'], (op: Op) => Promise<unknown>> = {
    'push blob': async (op) => pushBlob(at, op.name ?? '', '{}').then(() => '201'),
    'delete blob': async (op) => String((await send(`DELETE /v2/${op.name}/blobs/${config}`)).status),
    'put tag': put,
    'put digest': put,
    'delete tag': remove,
    'delete digest': remove,
    'get tag': get,
    'get digest': get,
    async list(op) {
      const answer = await send(`GET /v2/${op.name}/tags/list?${pageOf(op)}`)
      return answer.status === 200 ? jsonOf<{ tags: string[] }>(answer).tags : String(answer.status)
    },
    async catalog(op) {
      return jsonOf<{ repositories: string[] }>(await send(`GET /v2/_catalog?${pageOf(op)}`)).repositories
    },
    async referrers(op) {
      const answer = await send(`GET /v2/${op.name}/referrers/${subject.digest}`)
      return jsonOf<{ manifests: { digest: string }[] }>(answer).manifests.map(({ digest }) => digest)
    },
  }
  return async (op: Op) => perform[op.kind](op)
}

test('any requests, one after the other on either server, are answered as the model says', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(op, fc.nat(1)), { minLength: 1, maxLength: 60, size: 'max' }),
      async (steps) => {
        const driver = memoryDriver()
        await using one = await openTestRegistry({ driver })
        await using two = await openTestRegistry({ driver })
        const servers = [requestsTo(one), requestsTo(two)]
        const expectation = registryModel()
        // Without a blob little else succeeds.
        for (const name of ['a', 'a/b']) {
          await pushBlob(one, name, '{}')
          expectation({ kind: 'push blob', name })
        }
        for (const [step, server] of steps) {
          const answer = await servers[server]?.(step)
          expect({ step, answer }).toEqual({ step, answer: expectation(step) })
        }
      },
    ),
    { numRuns: 60 },
  )
})
