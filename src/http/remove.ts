/** Specification, "Content Management": end-9 and end-10. */
import { parseDigest } from '../oci/digest.ts'
import { OciError } from '../oci/errors.ts'
import { parseReference } from '../oci/names.ts'
import { blobUnknown } from '../registry/blobs.ts'
import { answer } from './answer.ts'
import type { Exchange } from './exchange.ts'

/** end-9: by tag the tag alone; by digest the manifest, and with it what its tags answer. */
export async function removeManifest({ ctx, registry, name, last }: Exchange): Promise<void> {
  const reference = parseReference(last)
  const isRemoved =
    'tag' in reference
      ? await registry.tags.remove(name, reference.tag)
      : await registry.manifests.remove(name, reference.digest)
  if (!isRemoved) throw new OciError('MANIFEST_UNKNOWN', { detail: { name, reference: last } })
  answer(ctx, 202)
}

/** end-10: the repository's own link; the bytes stay as long as any repository has them. */
export async function removeBlob({ ctx, registry, name, last }: Exchange): Promise<void> {
  const digest = parseDigest(last)
  if (!(await registry.blobs.remove(name, digest))) throw blobUnknown(digest)
  answer(ctx, 202)
}
