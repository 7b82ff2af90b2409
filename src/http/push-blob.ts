/** Specification, "Pushing blobs": end-4, end-5, end-6, end-11, end-13 and end-14. */
import { parseContentRange } from '../oci/content-range.ts'
import { parseAlgorithm, parseDigest, type Digest } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import { parseRepositoryName, type RepositoryName } from '../oci/names.ts'
import { rangeOf, type Body } from '../registry/uploads.ts'
import { answer } from './answer.ts'
import { bodyChunks, bodySize, type Exchange } from './exchange.ts'

/** end-4a, end-4b, end-4c, end-11: a mount, a blob in a single POST, or a session. */
export async function startUpload(exchange: Exchange): Promise<void> {
  const { ctx, registry, name, query } = exchange
  if (query.has('mount') && (await mountBlob(exchange))) return
  const digest = query.get('digest')
  if (digest !== null) {
    const pushed = parseDigest(digest)
    await registry.uploads.push(name, pushed, readBody(exchange))
    return answerCreated(exchange, pushed)
  }
  const session = await registry.uploads.start(
    name,
    parseAlgorithm(query.get('digest-algorithm') ?? 'sha256'),
  )
  answer(ctx, 202, sessionHeaders(name, session.id, 0))
}

/**
 * end-11: "if a registry ... is unable to mount the requested blob, it SHOULD return a 202" with a session: containerd
 * gives the push up at any 4xx.
 */
async function mountBlob(exchange: Exchange): Promise<boolean> {
  const { registry, name, query, may } = exchange
  const digest = parseDigest(query.get('mount') ?? '')
  const from = query.get('from')
  // What the caller may not read is answered as if it was not there: nothing is told of other people's blobs.
  const source = from ? parseRepositoryName(from) : (await may({ action: 'catalog' })) ? undefined : name
  if (source && !(await may({ action: 'pull', repository: source }))) return false
  const isMounted = await registry.blobs.mount(name, digest, source)
  if (isMounted) answerCreated(exchange, digest)
  return isMounted
}

/** end-5, with or without Content-Range. */
export async function uploadChunk(exchange: Exchange): Promise<void> {
  const { ctx, registry, name, last } = exchange
  const offset = await registry.uploads.append(name, last, readBody(exchange))
  answer(ctx, 202, sessionHeaders(name, last, offset))
}

/** end-6: the last bytes, all bytes, or none, and the digest of the whole. */
export async function finishUpload(exchange: Exchange): Promise<void> {
  const { registry, name, last, query } = exchange
  const digest = parseDigest(query.get('digest') ?? '')
  await registry.uploads.finish(name, last, digest, readBody(exchange))
  answerCreated(exchange, digest)
}

/** end-13 */
export async function getUpload({ ctx, registry, name, last }: Exchange): Promise<void> {
  const { offset } = await registry.uploads.status(name, last)
  answer(ctx, 204, sessionHeaders(name, last, offset))
}

/** end-14 */
export async function cancelUpload({ ctx, registry, name, last }: Exchange): Promise<void> {
  await registry.uploads.cancel(name, last)
  answer(ctx, 204)
}

function readBody({ ctx }: Exchange): Body {
  const size = bodySize(ctx)
  const contentRange = ctx.get('Content-Range')
  const range = contentRange === '' ? undefined : parseContentRange(contentRange)
  if (range && size !== undefined && range.end - range.start + 1 !== size) {
    throw new OciError('SIZE_INVALID', {
      message: `Content-Range ${contentRange} names ${range.end - range.start + 1} bytes, but Content-Length is ${size}`,
    })
  }
  return {
    chunks: bodyChunks(ctx),
    ...(size === undefined ? {} : { size }),
    ...(range && { offset: range.start }),
  }
}

/** Docker wants the Range and its own header on every 202. */
function sessionHeaders(name: RepositoryName, id: string, offset: number) {
  return { Location: `/v2/${name}/blobs/uploads/${id}`, Range: rangeOf(offset), 'Docker-Upload-UUID': id }
}

function answerCreated({ ctx, name }: Exchange, digest: Digest): void {
  answer(ctx, 201, { Location: `/v2/${name}/blobs/${digest}`, 'Docker-Content-Digest': digest })
}
