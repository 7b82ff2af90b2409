/**
 * One storage, served in turn by CNCF distribution and by us. What each wrote, moved and deleted is asked of the other,
 * byte for byte. The tests of a storage go on from each other.
 */
import { afterAll, describe, expect, jest, test } from '@jest/globals'
import {
  distributionVersions,
  findCollectable,
  startDistribution,
  type DistributionVersion,
  type SharedStorage,
} from '../support/distribution.ts'
import { descriptorOf } from '../support/images.ts'
import { registryClient, type RegistryClient } from '../support/image-transfer.ts'
import { emptyContents } from './contents.ts'
import {
  createStorages,
  removeReferrerMarks,
  startStowageOn,
  storageKinds,
  type StorageKind,
} from './storages.ts'
import { artifactsOf, deleteLeftovers, writeAllKinds, type Abilities, type Writer } from './writes.ts'

// A test is a hundred pushes and more, each on disk before it is answered.
jest.setTimeout(120_000)

const storages = createStorages()
afterAll(() => storages.remove())

const cases = distributionVersions.flatMap((version) => storageKinds.map((kind) => ({ version, kind })))

describe.each(cases)('distribution $version and we on $kind', ({ version, kind }) => {
  const contents = emptyContents()
  let creating: Promise<SharedStorage> | undefined
  const storage = () => (creating ??= storages.create(kind))

  const withDistribution = async (work: (writer: Writer) => Promise<void>) =>
    serveWith(await startDistribution(version, await storage()), async (client) =>
      work({ client, contents, ...distributionAbilities(version, kind) }),
    )
  const withStowage = async (work: (writer: Writer) => Promise<void>) =>
    serveWith(await startStowageOn(await storage()), async (client) =>
      work({ client, contents, ...ourAbilities }),
    )

  test('distribution serves what it wrote', async () => {
    await withDistribution(async (writer) => {
      await writeAllKinds(writer, 'first')
      await contents.expectServedBy('distribution', writer.client)
    })
  })

  test('we serve all that distribution wrote, and its referrers from the first request on', async () => {
    await withStowage(async ({ client }) => {
      await expectReferrers(client, 'first')
      expect(await contents.expectServedBy('stowage', client)).toBeGreaterThan(50)
    })
  })

  test('we write to it, and move and delete what distribution wrote', async () => {
    await withStowage(async (writer) => {
      await expectReferrers(writer.client, 'first')
      await writeAllKinds(writer, 'second')
      await deleteLeftovers(writer, 'first')
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
      expect(await contents.expectServedBy('distribution', client)).toBeGreaterThan(100)
    })
  })

  test('it goes back to distribution, which moves and deletes what we wrote, and to us again', async () => {
    await withDistribution(async (writer) => {
      await writeAllKinds(writer, 'third')
      await deleteLeftovers(writer, 'second')
    })
    await withStowage(async ({ client }) => {
      expect(await contents.expectServedBy('stowage', client)).toBeGreaterThan(150)
      for (const phase of ['first', 'second']) await expectReferrers(client, phase)
      // We looked for referrers already, and do not again.
      const { name, subject } = artifactsOf('third')
      expect(await client.listReferrers(name, subject.digest)).toEqual([])
    })
  })

  test('what distribution wrote after our first look is a referrer once the marks are taken away', async () => {
    await removeReferrerMarks(await storage())
    await withStowage(async ({ client }) => {
      for (const phase of ['first', 'second', 'third']) await expectReferrers(client, phase)
    })
  })
})

const ourAbilities: Abilities = {
  forms: ['post', 'stream', 'chunks', 'put'],
  deletesTags: true,
  takesEmptyBlobs: true,
  leavesFolders: true,
}

/** Neither version knows the single POST; 2.8 deletes no tags and, on S3, cannot take a blob without a byte. */
function distributionAbilities(version: DistributionVersion, kind: StorageKind): Abilities {
  return {
    forms: ['put', 'stream', 'chunks'],
    deletesTags: version === '3',
    takesEmptyBlobs: version === '3' || kind === 'a directory',
    leavesFolders: false,
  }
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
