/** Media types of manifests that we store, and of what they refer to. */
export const mediaTypes = {
  imageManifest: 'application/vnd.oci.image.manifest.v1+json',
  imageIndex: 'application/vnd.oci.image.index.v1+json',
  artifactManifest: 'application/vnd.oci.artifact.manifest.v1+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerManifestList: 'application/vnd.docker.distribution.manifest.list.v2+json',
} as const

export type ManifestMediaType = (typeof mediaTypes)[keyof typeof mediaTypes]

const known: ReadonlySet<string> = new Set(Object.values(mediaTypes))

export function isManifestMediaType(text: string): text is ManifestMediaType {
  return known.has(text)
}

/**
 * Layers that a client may leave on their own servers (image-spec, "Non-Distributable Layers"; Docker's foreign
 * layers): a manifest may refer to them without the registry holding their bytes.
 */
export function isNonDistributable(mediaType: string): boolean {
  return (
    mediaType.startsWith('application/vnd.oci.image.layer.nondistributable.') ||
    mediaType.startsWith('application/vnd.docker.image.rootfs.foreign.')
  )
}
