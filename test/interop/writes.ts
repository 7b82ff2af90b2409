/** Everything that can be written to a registry and that both implementations take, once for each phase of a test. */
import {
  blobOf,
  buildArtifact,
  buildImage,
  buildIndex,
  linuxArm64,
  seededBytes,
  type TestManifest,
} from '../support/images.ts'
import type { BlobForm, RegistryClient } from '../support/image-transfer.ts'
import type { Contents } from './contents.ts'

/** What a registry can do of what we want to see. */
export interface Abilities {
  /** The forms of upload that it knows. */
  readonly forms: readonly BlobForm[]
  readonly deletesTags: boolean
  readonly takesEmptyBlobs: boolean
  /** Whether the tags of a manifest that is deleted by digest keep their folders. */
  readonly leavesFolders: boolean
}

export interface Writer extends Abilities {
  readonly client: RegistryClient
  readonly contents: Contents
}

/** Several parts on S3, for either writer. */
const manyParts = 12 * 2 ** 20
const twoParts = 5.5 * 2 ** 20

/** A repository beside another and one below it: `a` is a prefix of both names. */
const nested = { outer: 'a', inner: 'a/b', beside: 'a-b', deep: 'a/b/c' } as const

export async function writeAllKinds(writer: Writer, phase: string): Promise<void> {
  await writeImages(writer, phase)
  await writeIndexes(writer, phase)
  await writeBlobs(writer, phase)
  await writeArtifacts(writer, phase)
  await writeLeftovers(writer, phase)
}

/** OCI and Docker, each form of upload, several tags on one manifest, a tag that moves, one that begins another. */
async function writeImages({ client, contents, forms }: Writer, phase: string): Promise<void> {
  const large = buildImage(`${phase}/large`, { layerSizes: [manyParts, 4096] })
  await contents.push(client, 'library/app', large, { tags: [phase, `${phase}-1`, `${phase}-1.0`] })
  for (const form of forms) {
    const image = buildImage(`${phase}/${form}`, { layerSizes: [twoParts] })
    await contents.push(client, 'library/forms', image, { tags: [`${phase}-${form}`], form })
  }
  for (const version of ['old', 'new']) {
    await contents.push(client, 'library/app', buildImage(`${phase}/${version}`), { tags: ['latest'] })
  }
  const docker = buildImage(`${phase}/docker`, { format: 'docker', layerSizes: [2048, 65536] })
  await contents.push(client, nested.outer, docker, { tags: ['latest', `${phase}_docker`] })
  const bare = buildImage(`${phase}/bare`, { saysMediaType: false, annotations: { phase } })
  await contents.push(client, nested.outer, bare, { tags: [`${phase}.bare`] })
  await contents.push(client, nested.outer, buildImage(`${phase}/untagged`))
  await contents.push(client, nested.outer, buildImage(`${phase}/no-layers`, { layerSizes: [] }))
}

async function writeIndexes({ client, contents }: Writer, phase: string): Promise<void> {
  const children = [buildImage(`${phase}/amd64`), buildImage(`${phase}/arm64`, { platform: linuxArm64 })]
  const index = buildIndex(children, { annotations: { phase } })
  await contents.push(client, nested.inner, index, { tags: [phase, 'latest'] })
  const list = buildIndex(
    children.map((_, at) => buildImage(`${phase}/docker/${at}`, { format: 'docker' })),
    { format: 'docker' },
  )
  await contents.push(client, nested.beside, list, { tags: [phase, 'latest'] })
  await contents.push(client, nested.inner, buildIndex([index, buildImage(`${phase}/beside`)]), {
    tags: [`${phase}-nested`],
  })
  await contents.push(client, nested.inner, buildIndex([]), { tags: [`${phase}-empty`] })
  const mixed = buildIndex([buildImage(`${phase}/mixed`, { format: 'docker' })])
  await contents.push(client, nested.beside, mixed, { tags: [`${phase}-mixed`] })
}

/** A blob without a byte, and an image whose blobs were all mounted from another repository. */
async function writeBlobs(writer: Writer, phase: string): Promise<void> {
  const { client, contents, takesEmptyBlobs } = writer
  if (takesEmptyBlobs) await contents.pushBlob(client, nested.outer, blobOf(Buffer.alloc(0), 'text/plain'))
  const image = buildImage(`${phase}/mounted`, { layerSizes: [2048, 4096] })
  await contents.push(client, 'library/app', image, { tags: [`${phase}-mounted`] })
  for (const blob of image.blobs) await contents.mountBlob(client, nested.deep, blob, 'library/app')
  await contents.push(client, nested.deep, image, { tags: [phase] })
}

/** What the artifacts of a phase are about, and they themselves. */
export function artifactsOf(phase: string): {
  readonly name: string
  readonly subject: TestManifest
  readonly artifacts: readonly TestManifest[]
} {
  const subject = buildImage(`${phase}/subject`)
  const kinds = ['sbom', 'signature']
  const artifacts = kinds.map((kind) =>
    buildArtifact(`${phase}/${kind}`, { subject, artifactType: `application/vnd.example.${kind}` }),
  )
  return { name: 'library/signed', subject, artifacts }
}

async function writeArtifacts({ client, contents }: Writer, phase: string): Promise<void> {
  const { name, subject, artifacts } = artifactsOf(phase)
  await contents.push(client, name, subject, { tags: [phase] })
  for (const artifact of artifacts) await contents.push(client, name, artifact)
  await contents.push(client, name, buildArtifact(`${phase}/alone`), { tags: [`${phase}-alone`] })
}

/**
 * What deleteLeftovers takes away in a later phase, by the other registry; and the same done by this one, at once.
 * No tag of these begins with another: on S3, version 2.8 does not delete `x` beside `x-y`, and 3 does not list `x_y`
 * beside `x`.
 */
async function writeLeftovers(writer: Writer, phase: string): Promise<void> {
  const { client, contents } = writer
  for (const lot of ['own', 'left'] as const) {
    const { name, manifest, alone, blob } = leftoversOf(phase, lot)
    await contents.push(client, name, manifest, { tags: [`${phase}-${lot}`, `too-${phase}-${lot}`] })
    await contents.push(client, name, alone, { tags: [`alone-${phase}-${lot}`, `kept-${phase}-${lot}`] })
    await contents.pushBlob(client, name, blob)
  }
  await deleteLot(writer, phase, 'own')
}

export async function deleteLeftovers(writer: Writer, phase: string): Promise<void> {
  await deleteLot(writer, phase, 'left')
}

function leftoversOf(phase: string, lot: string) {
  return {
    name: 'library/leftovers',
    manifest: buildImage(`${phase}/${lot}`),
    alone: buildImage(`${phase}/${lot}/alone`),
    blob: blobOf(seededBytes(`${phase}/${lot}/blob`, 1000), 'text/plain'),
  }
}

async function deleteLot(writer: Writer, phase: string, lot: 'own' | 'left'): Promise<void> {
  const { client, contents, deletesTags, leavesFolders } = writer
  const { name, manifest, blob } = leftoversOf(phase, lot)
  await contents.deleteManifest(client, name, manifest, leavesFolders)
  if (deletesTags) await contents.deleteTag(client, name, `alone-${phase}-${lot}`)
  await contents.deleteBlob(client, name, blob)
}
