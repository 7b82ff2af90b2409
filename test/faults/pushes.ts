/** A push as a list of steps, of which some were acknowledged before the server died, and what must be true then. */
import { expect } from '@jest/globals'
import { createHash } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Driver } from '../../src/storage/driver.ts'
import {
  expectBlob,
  expectManifest,
  registryClient,
  type BlobForm,
  type RegistryClient,
} from '../support/image-transfer.ts'
import { buildArtifact, buildImage, buildIndex, type TestBlob, type TestManifest } from '../support/images.ts'
import type { FaultServer } from './servers.ts'

export type Step =
  | { readonly kind: 'blob'; readonly name: string; readonly blob: TestBlob; readonly form: BlobForm }
  | { readonly kind: 'mount'; readonly name: string; readonly blob: TestBlob; readonly from: string }
  | {
      readonly kind: 'manifest'
      readonly name: string
      readonly reference: string
      readonly manifest: TestManifest
    }

/** Every way in which blobs and manifests come: sessions, one PUT, one POST, a mount, a tag that moves, a referrer. */
export function wholePush(seed: string): Step[] {
  const name = 'library/app'
  const image = buildImage(seed)
  const newer = buildImage(seed, { annotations: { is: 'newer' } })
  const referrer = buildArtifact(seed, { subject: image })
  const [config, layer] = image.blobs
  const forms: (readonly [TestBlob | undefined, BlobForm])[] = [
    [layer, 'stream'],
    [config, 'post'],
    ...referrer.blobs.map((blob) => [blob, 'put'] as const),
  ]
  const manifest = (reference: string, manifest: TestManifest, of = name): Step => ({
    kind: 'manifest',
    name: of,
    reference,
    manifest,
  })
  return [
    ...forms.flatMap(([blob, form]): Step[] => (blob ? [{ kind: 'blob', name, blob, form }] : [])),
    manifest('v1', image),
    manifest(referrer.digest, referrer),
    ...image.blobs.map((blob): Step => ({ kind: 'mount', name: 'library/copy', blob, from: name })),
    manifest('v1', newer),
    manifest(image.digest, image, 'library/copy'),
    manifest('multi', buildIndex([image]), 'library/copy'),
  ]
}

/** Carries the steps out until the server dies; those that were acknowledged. What fails otherwise is thrown. */
export async function pushUntilDeath(server: FaultServer, steps: readonly Step[]): Promise<Step[]> {
  const client = registryClient(server.registry)
  const acknowledged: Step[] = []
  for (const step of steps) {
    try {
      await perform(client, step)
    } catch (error) {
      // A connection breaks just before its process is known to be gone.
      const exit = await Promise.race([server.exited, delay(2_000, undefined, { ref: false })])
      if (exit?.signal === 'SIGKILL') return acknowledged
      throw error
    }
    acknowledged.push(step)
  }
  return acknowledged
}

export async function perform(client: RegistryClient, step: Step): Promise<void> {
  if (step.kind === 'blob') await client.pushBlob(step.name, step.blob, step.form)
  else if (step.kind === 'manifest') await client.pushManifest(step.name, step.reference, step.manifest)
  else expect(await client.mountBlob(step.name, step.blob.digest, step.from)).toBe(true)
}

/** All that was acknowledged is there byte for byte; a tag may have been moved by the step that was under way. */
export async function expectAcknowledged(
  client: RegistryClient,
  acknowledged: readonly Step[],
  underWay?: Step,
): Promise<void> {
  const tags = new Map<string, TestManifest>()
  for (const step of acknowledged) {
    if (step.kind !== 'manifest') {
      await expectBlob(client, step.name, step.blob)
      continue
    }
    await expectManifest(client, step.name, step.manifest.digest, step.manifest)
    if (!step.reference.includes(':')) tags.set(`${step.name}/manifests/${step.reference}`, step.manifest)
  }
  for (const [path, manifest] of tags) {
    const { digest } = await pull(client, path)
    const isMoved =
      underWay?.kind === 'manifest' && path === `${underWay.name}/manifests/${underWay.reference}`
    expect([manifest.digest, ...(isMoved ? [underWay.manifest.digest] : [])]).toContain(digest)
  }
}

/** Whatever is served is what its digest says, and what is listed can be pulled whole. */
export async function expectNothingBroken(client: RegistryClient, steps: readonly Step[]): Promise<void> {
  for (const step of steps) {
    const blobs = step.kind === 'manifest' ? step.manifest.blobs : [step.blob]
    for (const { digest } of blobs) {
      const path = `${step.name}/blobs/${digest}`
      const { status } = await client.request(path, { method: 'HEAD' })
      expect([200, 404]).toContain(status)
      if (status === 200) await pull(client, path, digest)
    }
  }
  for (const name of new Set(steps.map((step) => step.name))) {
    for (const tag of (await client.listTags(name)) ?? []) {
      await pullWhole(client, name, tag)
    }
  }
}

interface Document {
  readonly config?: { readonly digest: string }
  readonly layers?: readonly { readonly digest: string }[]
  readonly manifests?: readonly { readonly digest: string }[]
}

/** As a client pulls: the manifest, then all that it names. Children of an index may be absent. */
async function pullWhole(client: RegistryClient, name: string, reference: string): Promise<void> {
  const { bytes, digest } = await pull(client, `${name}/manifests/${reference}`)
  const { config, layers = [], manifests = [] } = JSON.parse(bytes.toString()) as Document
  for (const blob of [...(config ? [config] : []), ...layers]) {
    await pull(client, `${name}/blobs/${blob.digest}`, blob.digest)
  }
  for (const child of manifests) {
    const { status } = await client.request(`${name}/manifests/${child.digest}`, { method: 'HEAD' })
    if (status === 200) await pullWhole(client, name, child.digest)
  }
  for (const referrer of (await client.listReferrers(name, digest)) as { digest: string }[]) {
    await pullWhole(client, name, referrer.digest)
  }
}

async function pull(client: RegistryClient, path: string, wanted?: string) {
  const response = await client.request(path)
  const bytes = Buffer.from(await response.arrayBuffer())
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
  const said = response.headers.get('Docker-Content-Digest')
  expect({ path, status: response.status, digest }).toEqual({ path, status: 200, digest: wanted ?? said })
  return { bytes, digest }
}

/** Looked at below the registry: each object under a blob's key has that digest, linked anywhere or not. */
export async function expectVerifiedBlobs(driver: Driver): Promise<void> {
  const folder = 'docker/registry/v2/blobs/sha256/'
  for await (const { key } of driver.list(folder)) {
    const bytes = await driver.read(key)
    const hex = createHash('sha256')
      .update(bytes ?? '')
      .digest('hex')
    expect(key).toBe(`${folder}${hex.slice(0, 2)}/${hex}/data`)
  }
}
