/** A registry in a few maps: what each request is answered after those before it. */
import { digestOf } from '../../src/oci/digest.ts'
import { mediaTypes } from '../../src/oci/media-types.ts'
import { bytesOf, imageOf, indexOf } from './registry.ts'

export const config = digestOf(Buffer.from('{}'))
export const image = imageOf([])
export const subject = {
  mediaType: image.mediaType,
  digest: digestOf(bytesOf(image)),
  size: bytesOf(image).length,
}
export const manifests = [
  image,
  imageOf([], { annotations: { version: '2' } }),
  imageOf([], { subject, artifactType: 'application/example' }),
  indexOf([subject]),
  indexOf([], { subject, annotations: { kind: 'index' } }),
]
export const digests = manifests.map((manifest) => digestOf(bytesOf(manifest)))
const needsConfig = (position: number) => manifests[position]?.mediaType === mediaTypes.imageManifest
const referrers = [2, 4]

/** What a repository holds; a tag whose manifest was deleted stays, out of sight. */
interface Repository {
  hasConfig: boolean
  readonly revisions: Set<number>
  readonly tags: Map<string, number>
}

export interface Op {
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

/** Answers each request, in the order of the calls. */
export function registryModel() {
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
  return (op: Op): unknown => expected[op.kind](op)
}
