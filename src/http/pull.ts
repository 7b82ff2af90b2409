/** Specification, "Pull": end-1, end-2 and end-3. */
import { parseRange } from '../oci/content-range.ts'
import { parseDigest, type Digest } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import { parseReference } from '../oci/names.ts'
import { blobUnknown } from '../registry/blobs.ts'
import { answer, answerJson, answerStream } from './answer.ts'
import type { Exchange } from './exchange.ts'

/** end-1: "If the response is 200 OK, then the registry implements this specification." */
export function getSupport({ ctx }: Exchange): void {
  answerJson(ctx, 200, {})
}

/** end-3, GET and HEAD: "MUST provide the expected manifest", byte for byte, with its digest and its media type. */
export async function pullManifest({ ctx, registry, name, last }: Exchange): Promise<void> {
  const reference = parseReference(last)
  const content = await registry.manifests.get(name, reference)
  if (!content) {
    throw new OciError('MANIFEST_UNKNOWN', { detail: { name, reference: last } })
  }
  const { digest, bytes, manifest } = content
  const headers = { 'Docker-Content-Digest': digest, ETag: `"${digest}"` }
  if (matches(ctx.get('If-None-Match'), digest)) return answer(ctx, 304, headers)
  answer(ctx, 200, { 'Content-Type': manifest.mediaType, ...headers }, bytes)
}

/** end-2, HEAD: answered without touching the bytes. A client that reads 200 need not push the blob. */
export async function statBlob({ ctx, registry, name, last, redirect }: Exchange): Promise<void> {
  const digest = parseDigest(last)
  const object = await registry.blobs.stat(name, digest)
  if (!object) throw blobUnknown(digest)
  if (matches(ctx.get('If-None-Match'), digest)) return answer(ctx, 304, blobHeaders(digest))
  const url = redirect ? await registry.blobs.presign(digest, 'HEAD') : undefined
  if (url) return answer(ctx, 307, { Location: url, ...blobHeaders(digest) })
  answer(ctx, 200, { ...blobHeaders(digest), 'Content-Length': object.size })
}

/** end-2, GET: whole, by range (RFC 9110, section 14), or by redirect to the storage itself. */
export async function pullBlob(exchange: Exchange): Promise<void> {
  const { ctx, registry, name, last, redirect } = exchange
  const digest = parseDigest(last)
  if (redirect && (await redirectBlob(exchange, digest))) return
  if (ctx.get('Range') || ctx.get('If-None-Match')) return pullPart(exchange, digest)
  const stream = await registry.blobs.open(name, digest)
  if (!stream) throw blobUnknown(digest)
  await answerStream(ctx, 200, blobHeaders(digest), { body: stream.body, length: stream.object.size })
}

/** What a request with conditions gets depends on the size, so that is asked first. */
async function pullPart({ ctx, registry, name }: Exchange, digest: Digest): Promise<void> {
  const found = await registry.blobs.find(name, digest)
  if (!found) throw blobUnknown(digest)
  if (matches(ctx.get('If-None-Match'), digest)) return answer(ctx, 304, blobHeaders(digest))
  const range = isFresh(ctx.get('If-Range'), digest) ? parseRange(ctx.get('Range'), found.size) : undefined
  const stream = await registry.blobs.open(name, digest, range)
  if (!stream) throw blobUnknown(digest)
  const length = range ? range.end - range.start + 1 : found.size
  const contentRange = range ? { 'Content-Range': `bytes ${range.start}-${range.end}/${found.size}` } : {}
  const headers = { ...blobHeaders(digest), ...contentRange }
  await answerStream(ctx, range ? 206 : 200, headers, { body: stream.body, length })
}

async function redirectBlob({ ctx, registry, name }: Exchange, digest: Digest): Promise<boolean> {
  if (!(await registry.blobs.find(name, digest))) throw blobUnknown(digest)
  const url = await registry.blobs.presign(digest, 'GET')
  if (url) answer(ctx, 307, { Location: url, 'Docker-Content-Digest': digest })
  return url !== undefined
}

function blobHeaders(digest: Digest) {
  return {
    'Content-Type': 'application/octet-stream',
    'Docker-Content-Digest': digest,
    ETag: `"${digest}"`,
    'Accept-Ranges': 'bytes',
  }
}

function matches(ifNoneMatch: string, digest: Digest): boolean {
  return ifNoneMatch.split(',').some((tag) => [`"${digest}"`, `W/"${digest}"`, '*'].includes(tag.trim()))
}

/** A range is only good for the content that its client already has a part of. */
function isFresh(ifRange: string, digest: Digest): boolean {
  return ifRange === '' || ifRange === `"${digest}"`
}
