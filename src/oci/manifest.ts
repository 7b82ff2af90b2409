import { z } from 'zod'
import { tryParseDigest, type Digest } from './digest.ts'
import { OciError } from './errors.ts'
import { isManifestMediaType, isNonDistributable, mediaTypes, type ManifestMediaType } from './media-types.ts'

/** What a manifest says of a thing that it refers to (image-spec, "Descriptor"). */
export interface Descriptor {
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
  readonly artifactType?: string
  readonly annotations?: Readonly<Record<string, string>>
}

/** What the registry needs to know of a manifest. Its bytes are kept beside it, unchanged. */
export interface Manifest {
  readonly mediaType: ManifestMediaType
  /** Whether it says so itself, as it should; else its shape did. */
  readonly hasMediaType: boolean
  /** Config, layers and an artifact's blobs that must be in the repository. */
  readonly blobs: readonly Descriptor[]
  /** Layers that may live elsewhere, and entries of an index that are no manifests (build caches): kept if here. */
  readonly foreignBlobs: readonly Descriptor[]
  /** The manifests of an index. They may be absent: a sparse index. */
  readonly children: readonly Descriptor[]
  /** What this manifest is about. It may be absent. */
  readonly subject: Digest | undefined
  /** What the referrers API shows: the manifest's own, else its config's media type (an index has only its own). */
  readonly artifactType: string | undefined
  readonly annotations: Readonly<Record<string, string>> | undefined
}

const digestSchema = z.string().transform((text, context): Digest => {
  const digest = tryParseDigest(text)
  if (digest) return digest
  context.addIssue({ code: 'custom', message: 'expected sha256:<64 hex digits> or sha512:<128 hex digits>' })
  return z.NEVER
})
// Not z.record: it leaves out what is called __proto__, and referrers are shown with all their annotations.
const annotationsSchema = z
  .custom<Readonly<Record<string, string>>>(isTextByName, 'expected texts by name')
  .nullish()
const rawDescriptorSchema = z.object({
  mediaType: z.string().min(1),
  digest: digestSchema,
  size: z.number().int().nonnegative(),
  artifactType: z.string().optional(),
  annotations: annotationsSchema,
})
/** A descriptor on its own, as it stands in an object of ours. */
export const descriptorSchema = rawDescriptorSchema.transform(toDescriptor)

const manifestSchema = z.object({
  // Only an artifact manifest has none.
  schemaVersion: z.literal(2, 'expected 2; schema 1 has been retired, push with a newer client').optional(),
  mediaType: z.string().optional(),
  artifactType: z.string().optional(),
  config: rawDescriptorSchema.optional(),
  layers: z.array(rawDescriptorSchema).nullish(),
  blobs: z.array(rawDescriptorSchema).nullish(),
  manifests: z.array(rawDescriptorSchema).nullish(),
  subject: rawDescriptorSchema.nullish(),
  annotations: annotationsSchema,
})
type RawManifest = z.infer<typeof manifestSchema>
type RawDescriptor = z.infer<typeof rawDescriptorSchema>

/**
 * Reads a manifest as it was pushed or stored. Fields that we do not know are left alone.
 * @param contentType the request's Content-Type; undefined for one read from storage, whose type is in its JSON or
 *   follows from its shape (distribution stores none).
 * @throws OciError MANIFEST_INVALID
 */
export function parseManifest(bytes: Uint8Array, contentType?: string): Manifest {
  const raw = readJson(bytes)
  const mediaType = mediaTypeOf(raw, contentType)
  checkShape(raw, mediaType)
  const isIndex = mediaType === mediaTypes.imageIndex || mediaType === mediaTypes.dockerManifestList
  const layers = isIndex ? [] : blobsOf(raw).map(toDescriptor)
  const entries = isIndex ? (raw.manifests ?? []).map(toDescriptor) : []
  return {
    mediaType,
    hasMediaType: Boolean(raw.mediaType),
    blobs: layers.filter((layer) => !isNonDistributable(layer.mediaType)),
    foreignBlobs: [
      ...layers.filter((layer) => isNonDistributable(layer.mediaType)),
      ...entries.filter((entry) => !isManifestMediaType(entry.mediaType)),
    ],
    children: entries.filter((entry) => isManifestMediaType(entry.mediaType)),
    subject: raw.subject?.digest,
    artifactType: raw.artifactType || (isIndex ? undefined : raw.config?.mediaType),
    annotations: raw.annotations ?? undefined,
  }
}

function isTextByName(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  return Object.values(value).every((text) => typeof text === 'string')
}

function blobsOf(raw: RawManifest): RawDescriptor[] {
  return [raw.config ?? [], raw.layers ?? [], raw.blobs ?? []].flat()
}

function readJson(bytes: Uint8Array): RawManifest {
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw new OciError('MANIFEST_INVALID', { message: 'manifest invalid: not JSON in UTF-8', cause })
  }
  const result = manifestSchema.safeParse(json)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  throw new OciError('MANIFEST_INVALID', {
    message: `manifest invalid: ${issue?.path.join('.') || 'document'}: ${issue?.message ?? 'unexpected'}`,
  })
}

function mediaTypeOf(raw: RawManifest, contentType: string | undefined): ManifestMediaType {
  const own = raw.mediaType || mediaTypeOfShape(raw)
  // "The registry SHOULD ignore parameters on the Content-Type header."
  const said = contentType?.split(';')[0]?.trim() || own
  if (said !== own) {
    throw new OciError('MANIFEST_INVALID', {
      message: `manifest invalid: Content-Type is ${said}, but the manifest ${raw.mediaType ? 'says' : 'has no mediaType and the shape of'} ${own}; send the manifest's own type`,
    })
  }
  if (isManifestMediaType(own)) return own
  throw new OciError('MANIFEST_INVALID', {
    message: `manifest invalid: media type ${own} is not supported; expected one of ${Object.values(mediaTypes).join(', ')}`,
  })
}

/** image-spec: mediaType "SHOULD be used", so it may be missing; Docker's types and artifacts always have it. */
function mediaTypeOfShape(raw: RawManifest): ManifestMediaType {
  return raw.manifests ? mediaTypes.imageIndex : mediaTypes.imageManifest
}

function checkShape(raw: RawManifest, mediaType: ManifestMediaType): void {
  const refuse = (message: string) => {
    throw new OciError('MANIFEST_INVALID', { message: `manifest invalid: ${message}` })
  }
  if (mediaType === mediaTypes.artifactManifest) return
  if (raw.schemaVersion !== 2) refuse('schemaVersion: expected 2')
  if (mediaType === mediaTypes.imageIndex || mediaType === mediaTypes.dockerManifestList) {
    if (!raw.manifests) refuse('manifests: an index needs the list of its manifests, which may be empty')
    // A document that is both could be shown as an image to one client and as an index to another (CVE-2021-41190).
    if (raw.config ?? raw.layers) refuse('an index must have neither config nor layers')
    return
  }
  if (!raw.config) refuse('config: an image manifest needs the descriptor of its config')
  if (raw.manifests) refuse('an image manifest must not have manifests')
}

function toDescriptor(raw: RawDescriptor): Descriptor {
  const { mediaType, digest, size, artifactType, annotations } = raw
  return {
    mediaType,
    digest,
    size,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(annotations ? { annotations } : {}),
  }
}
