/** Pushes, deletes, tags and lists in any order, on two servers: what they answer is what a few maps say. */
import { test, expect } from '@jest/globals'
import fc from 'fast-check'
import { digestOf } from '../../src/oci/digest.ts'
import { mediaTypes } from '../../src/oci/media-types.ts'
import { memoryDriver } from '../../src/storage/memory.ts'
import {
  bytesOf,
  imageOf,
  indexOf,
  jsonOf,
  openTestRegistry,
  pushBlob,
  putManifest,
  type TestRegistry,
} from '../support/registry.ts'

const config = digestOf(Buffer.from('{}'))
const image = imageOf([])
const subject = { mediaType: image.mediaType, digest: digestOf(bytesOf(image)), size: bytesOf(image).length }
const manifests = [
  image,
  imageOf([], { annotations: { version: '2' } }),
  imageOf([], { subject, artifactType: 'application/example' }),
  indexOf([subject]),
  indexOf([], { subject, annotations: { kind: 'index' } }),
]
const digests = manifests.map((manifest) => digestOf(bytesOf(manifest)))
const needsConfig = (position: number) => manifests[position]?.mediaType === mediaTypes.imageManifest
const referrers = [2, 4]

/** What a repository holds; a tag whose manifest was deleted stays, out of sight. */
interface Repository {
  hasConfig: boolean
  readonly revisions: Set<number>
  readonly tags: Map<string, number>
}

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
interface Op {
  readonly kind:
    | 'push blob'
    | 'delete blob'
    | 'put tag'
    | 'put digest'
    | 'delete tag'
    | 'delete digest'
    | 'get tag'
    | 'get digest'
    | 'list'
    | 'catalog'
    | 'referrers'
  readonly name?: string
  readonly tag?: string
  readonly position?: number
  readonly n?: number | undefined
  readonly last?: string | undefined
}

function model() {
  const repositories = new Map<string, Repository>()
  const of = (name = ''): Repository => {
    const nothing = { hasConfig: false, revisions: new Set<number>(), tags: new Map<string, number>() }
    const repository = repositories.get(name) ?? nothing
    repositories.set(name, repository)
    return repository
  }
  const exists = ({ hasConfig, revisions, tags }: Repository) =>
    hasConfig || revisions.size > 0 || tags.size > 0
  const page = (items: readonly string[], { n = 1000, last = '' }: Op) =>
    items
      .toSorted()
      .filter((item) => item > last)
      .slice(0, n)

  function put({ name, tag, position = 0 }: Op): string {
    const repository = of(name)
    // An index is only as whole as those of its children that are there.
    const isWhole =
      repository.hasConfig || !(needsConfig(position) || (position === 3 && repository.revisions.has(0)))
    if (!isWhole) return '404'
    repository.revisions.add(position)
    if (tag !== undefined) repository.tags.set(tag, position)
    return `201 ${digests[position]}`
  }
  const get = ({ revisions }: Repository, position: number | undefined) =>
    position !== undefined && revisions.has(position) ? `200 ${digests[position]}` : '404'

  const expected: Record<Op['kind'], (op: Op) => unknown> = {
    'push blob': (op) => {
      of(op.name).hasConfig = true
      return '201'
    },
    'delete blob': (op) => {
      const repository = of(op.name)
      const status = repository.hasConfig ? '202' : '404'
      repository.hasConfig = false
      return status
    },
    'put tag': put,
    'put digest': put,
    'delete tag': (op) => (of(op.name).tags.delete(op.tag ?? '') ? '202' : '404'),
    'delete digest': (op) => (of(op.name).revisions.delete(op.position ?? 0) ? '202' : '404'),
    'get tag': (op) => get(of(op.name), of(op.name).tags.get(op.tag ?? '')),
    'get digest': (op) => get(of(op.name), op.position),
    list: (op) => {
      const { tags, revisions } = of(op.name)
      if (!exists(of(op.name))) return '404'
      const shown = [...tags].filter(([, position]) => revisions.has(position)).map(([tag]) => tag)
      return page(shown, op)
    },
    catalog: (op) =>
      page(
        [...repositories].filter(([, one]) => exists(one)).map(([name]) => name),
        op,
      ),
    referrers: (op) =>
      referrers
        .filter((one) => of(op.name).revisions.has(one))
        .map((one) => String(digests[one]))
        .toSorted(),
  }
  return (op: Op) => expected[op.kind](op)
}

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
        const expectation = model()
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
