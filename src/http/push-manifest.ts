/** Specification, "Pushing Manifests": end-7. */
import { OciError } from '../oci/errors.ts'
import type { Manifest } from '../oci/manifest.ts'
import { mediaTypes } from '../oci/media-types.ts'
import { parseReference, parseTag } from '../oci/names.ts'
import { answer } from './answer.ts'
import { bodyChunks, bodySize, type Exchange } from './exchange.ts'

/** "SHOULD support pushing at least 10 tags per request"; more than these are a 414. */
const maxTags = 100

export async function pushManifest(exchange: Exchange): Promise<void> {
  const { ctx, registry, name, last, query } = exchange
  const reference = parseReference(last)
  const tags = query.getAll('tag').map(parseTag)
  if (tags.length > maxTags) {
    throw new OciError('REQUEST_INVALID', {
      status: 414,
      message: `too many tags: at most ${maxTags} in one request`,
    })
  }
  const bytes = await readManifest(exchange)
  const contentType = ctx.get('Content-Type') || undefined
  const { digest, manifest } = await registry.manifests.put(name, { reference, tags, bytes, contentType })
  answer(ctx, 201, {
    Location: `/v2/${name}/manifests/${digest}`,
    'Docker-Content-Digest': digest,
    ...(manifest.subject && { 'OCI-Subject': manifest.subject }),
    ...(tags.length > 0 && { 'OCI-Tag': tags }),
    ...warnings(manifest),
  })
}

/** "A registry that enforces this limit SHOULD respond ... with a response code 413 Payload Too Large." */
async function readManifest({ ctx, registry }: Exchange): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = bodySize(ctx) ?? 0
  const check = () => {
    if (size <= registry.manifestMaxBytes) return
    throw new OciError('SIZE_INVALID', {
      status: 413,
      message: `the manifest is larger than the ${registry.manifestMaxBytes} bytes that this registry takes`,
    })
  }
  check()
  size = 0
  for await (const chunk of bodyChunks(ctx)) {
    size += chunk.length
    check()
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** Specification, "Warnings": `299 - "<text>"`; clients such as oras show them to a person. */
function warnings(manifest: Manifest) {
  const texts: string[] = []
  if (manifest.mediaType === mediaTypes.artifactManifest) {
    texts.push(
      'artifact manifests were withdrawn from the image specification; push an image manifest with artifactType',
    )
  } else if (!manifest.hasMediaType) {
    texts.push('this manifest has no mediaType field; other registries may take it for something else')
  }
  return texts.length > 0 ? { Warning: texts.map((text) => `299 - "${text}"`) } : {}
}
