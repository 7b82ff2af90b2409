/** Specification, "Content Discovery": end-8 and end-12, and Docker's catalog. */
import { parseDigest } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import type { Descriptor } from '../oci/manifest.ts'
import { mediaTypes } from '../oci/media-types.ts'
import { parseTag } from '../oci/names.ts'
import type { Listing, Page } from '../registry/tags.ts'
import { answer, answerJson } from './answer.ts'
import type { Exchange } from './exchange.ts'

/** What one answer lists at most; the rest is behind its Link. */
const maxTags = 10_000
const maxRepositories = 1_000

/** Clients refuse an index that is larger than a manifest may be. */
const maxReferrersBytes = 3 * 1024 * 1024

/** end-8a, end-8b */
export async function listTags(exchange: Exchange): Promise<void> {
  const { registry, name, query } = exchange
  // "<tagname> ... MUST be a proper tag": storage lists from there on.
  const last = query.get('last')
  if (last) parseTag(last)
  await answerPage(exchange, maxTags, async (page) => {
    const listing = await registry.tags.list(name, page)
    if (listing.items.length === 0 && !(await registry.repositories.exists(name))) {
      throw new OciError('NAME_UNKNOWN', { detail: { name } })
    }
    return { listing, body: { name, tags: listing.items } }
  })
}

export async function listRepositories(exchange: Exchange): Promise<void> {
  await answerPage(exchange, maxRepositories, async (page) => {
    const listing = await exchange.registry.repositories.list(page)
    return { listing, body: { repositories: listing.items } }
  })
}

interface PageAnswer {
  readonly listing: Listing<string>
  readonly body: unknown
}

async function answerPage(
  { ctx, query }: Exchange,
  max: number,
  find: (page: Page) => Promise<PageAnswer>,
): Promise<void> {
  const wanted = parseCount(query.get('n')) ?? max
  const limit = Math.min(wanted, max)
  const last = query.get('last')
  const { listing, body } = await find({ limit, ...(last ? { last } : {}) })
  const next = listing.items.at(-1)
  // "When n is zero, this endpoint MUST return an empty list, and MUST NOT include a Link header."
  const link =
    listing.hasMore && next !== undefined ? nextLink(ctx.path, { n: String(limit), last: next }) : {}
  answerJson(ctx, 200, body, link)
}

/** end-12a, end-12b: never 404, since a client would fall back to the referrers tag. */
export async function listReferrers({ ctx, registry, name, last, query }: Exchange): Promise<void> {
  const subject = parseDigest(last)
  const artifactType = query.get('artifactType')
  const after = query.get('last') ?? ''
  const all = await registry.referrers.list(name, subject)
  const wanted = all.filter(
    (one) => (artifactType === null || one.artifactType === artifactType) && one.digest > after,
  )
  const { page, hasMore } = firstPage(wanted)
  const next = page.at(-1)?.digest
  const filter = artifactType === null ? {} : { artifactType }
  const index = { schemaVersion: 2, mediaType: mediaTypes.imageIndex, manifests: page }
  answer(
    ctx,
    200,
    {
      'Content-Type': mediaTypes.imageIndex,
      ...(artifactType === null ? {} : { 'OCI-Filters-Applied': 'artifactType' }),
      ...(hasMore && next ? nextLink(ctx.path, { ...filter, last: next }) : {}),
    },
    JSON.stringify(index),
  )
}

/** At least one, and no more than fit. */
function firstPage(descriptors: readonly Descriptor[]): { page: Descriptor[]; hasMore: boolean } {
  const page: Descriptor[] = []
  let bytes = 0
  for (const descriptor of descriptors) {
    bytes += Buffer.byteLength(JSON.stringify(descriptor))
    if (page.length > 0 && bytes > maxReferrersBytes) return { page, hasMore: true }
    page.push(descriptor)
  }
  return { page, hasMore: false }
}

/** RFC 5988, with the relation type "next"; relative, so that it holds behind a proxy. */
function nextLink(path: string, query: Record<string, string>) {
  return { Link: `<${path}?${new URLSearchParams(query).toString()}>; rel="next"` }
}

function parseCount(text: string | null): number | undefined {
  if (text === null) return undefined
  if (/^[0-9]{1,9}$/.test(text)) return Number(text)
  throw new OciError('PAGE_INVALID', {
    message: 'invalid n: expected the number of results wanted, 0 or more',
    detail: { n: text.slice(0, 100) },
  })
}
