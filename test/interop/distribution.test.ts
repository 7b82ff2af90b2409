/**
 * One storage, served in turn by CNCF distribution and by us. What each wrote, moved and deleted is asked of the other,
 * byte for byte. The tests of a storage go on from each other.
 */
import { afterAll, describe, expect, test } from '@jest/globals'
import {
  distributionVersions,
  findCollectable,
  startDistribution,
  type DistributionVersion,
  type SharedStorage,
} from '../support/distribution.ts'
import { descriptorOf } from '../support/images.ts'
import { registryClient, type RegistryClient } from '../support/image-transfer.ts'
import { emptyContents, type Contents } from './contents.ts'
import { artifactsOf, deleteLeftovers, writeAllKinds, type Writer } from './writes.ts'
import { createStorages, startStowageOn, storageKinds } from './storages.ts'

const storages = createStorages()
afterAll(() => storages.remove())

const cases = distributionVersions.flatMap((version) => storageKinds.map((kind) => ({ version, kind })))

describe.each(cases)('distribution $version and we on $kind', ({ version, kind }) => {
  const contents = emptyContents()
  let creating: Promise<SharedStorage> | undefined
  const storage = () => (creating ??= storages.create(kind))

  const withDistribution = async (work: (writer: Writer) => Promise<void>) =>
    serveWith(await startDistribution(version, await storage()), async (client) =>
      work(distributionWriter(version, client, contents)),
    )
  const withStowage = async (work: (writer: Writer) => Promise<void>) =>
    serveWith(await startStowageOn(await storage()), async (client) => work(ourWriter(client, contents)))

  test('distribution serves what it wrote', async () => {
    await withDistribution(async (writer) => {
      await writeAllKinds(writer, 'first')
      await contents.expectServedBy(writer.client, { listsDanglingTags: true })
    })
  })

  test('we serve all that distribution wrote', async () => {
    await withStowage(async ({ client }) => {
      expect(await contents.expectServedBy(client)).toBeGreaterThan(50)
    })
  })

  test('the referrers that distribution wrote are there from the first request on', async () => {
    await withStowage(async ({ client }) => {
      await expectReferrers(client, 'first')
    })
    await withStowage(async ({ client }) => {
      await expectReferrers(client, 'first')
    })
  })

  test('we write to it, and move and delete what distribution wrote', async () => {
    await withStowage(async (writer) => {
      await writeAllKinds(writer, 'second')
      await deleteLeftovers(writer, 'first')
      await contents.expectServedBy(writer.client)
      await expectReferrers(writer.client, 'second')
    })
  })

  test("distribution's own collection would take nothing that is referred to", async () => {
    const { blobs, layerLinks } = await findCollectable(version, await storage())
    expect(blobs).toEqual(contents.unreferencedBlobs())
    const unreferenced = new Set(blobs)
    expect(layerLinks.filter((link) => !unreferenced.has(link.split('@')[1] ?? ''))).toEqual([])
  })

  test('distribution serves all that we wrote, and no longer what we deleted', async () => {
    await withDistribution(async ({ client }) => {
      expect(await contents.expectServedBy(client, { listsDanglingTags: true })).toBeGreaterThan(100)
    })
  })

  test('it goes back to distribution, which moves and deletes what we wrote, and to us again', async () => {
    await withDistribution(async (writer) => {
      await writeAllKinds(writer, 'third')
      await deleteLeftovers(writer, 'second')
      await contents.expectServedBy(writer.client, { listsDanglingTags: true })
    })
    await withStowage(async ({ client }) => {
      expect(await contents.expectServedBy(client)).toBeGreaterThan(150)
      await expectReferrers(client, 'second')
      await expectReferrers(client, 'third')
    })
  })
})

function ourWriter(client: RegistryClient, contents: Contents): Writer {
  return {
    client,
    contents,
    forms: ['post', 'stream', 'chunks', 'put'],
    deletesTags: true,
    leavesFolders: true,
  }
}

/** Neither version knows the single POST; 2.8 does not delete by tag. */
function distributionWriter(
  version: DistributionVersion,
  client: RegistryClient,
  contents: Contents,
): Writer {
  const deletesTags = version === '3'
  return { client, contents, forms: ['put', 'stream', 'chunks'], deletesTags, leavesFolders: false }
}

async function serveWith(
  server: { readonly registry: string; stop(): Promise<unknown>; output(): string },
  work: (client: RegistryClient) => Promise<void>,
): Promise<void> {
  try {
    await work(registryClient(server.registry))
  } catch (error) {
    console.log(server.output().slice(-8192))
    throw error
  } finally {
    await server.stop()
  }
}

async function expectReferrers(client: RegistryClient, phase: string): Promise<void> {
  const { name, subject, artifacts } = artifactsOf(phase)
  const expected = artifacts
    .map((artifact) => ({
      ...descriptorOf(artifact),
      artifactType: artifact.artifactType,
      annotations: artifact.annotations,
    }))
    .toSorted((a, b) => (a.digest < b.digest ? -1 : 1))
  expect(await client.listReferrers(name, subject.digest)).toEqual(expected)
}
