/** Blobs by sha512, which distribution takes but keeps in a way of its own. */
import { afterAll, describe, expect, test } from '@jest/globals'
import { distributionVersions, startDistribution } from '../support/distribution.ts'
import { blobOf, buildImage, seededBytes } from '../support/images.ts'
import { expectBlob, expectManifest, expectNoBlob } from '../support/image-transfer.ts'
import { createStorages, serving, startStowageOn } from './storages.ts'

const storages = createStorages()
afterAll(() => storages.remove())

describe.each(distributionVersions)('with distribution %s', (version) => {
  test('an image whose blobs we took by sha512 is served by distribution', async () => {
    const storage = await storages.create('a directory')
    const image = buildImage('ours', { algorithm: 'sha512', layerSizes: [2048, 4096] })
    await using ours = await serving(startStowageOn(storage))
    await ours.client.push('a', image, { tags: ['v1'] })
    await using theirs = await serving(startDistribution(version, storage))
    await expectManifest(theirs.client, 'a', 'v1', image)
    for (const blob of image.blobs) await expectBlob(theirs.client, 'a', blob)
  })

  test('a manifest by sha512 is what distribution does not take, and serves where we took it', async () => {
    const storage = await storages.create('a directory')
    const image = buildImage('both')
    const manifest = { ...image, ...blobOf(image.bytes, image.mediaType, 'sha512') }
    await using theirs = await serving(startDistribution(version, storage))
    await theirs.client.push('theirs', image)
    await expect(theirs.client.pushManifest('theirs', manifest.digest, manifest)).rejects.toThrow(
      'DIGEST_INVALID',
    )
    await using ours = await serving(startStowageOn(storage))
    await ours.client.push('ours', manifest)
    await expectManifest(theirs.client, 'ours', manifest.digest, manifest)
  })

  test('a blob that distribution took by sha512 is unknown to us until it is pushed to us', async () => {
    const storage = await storages.create('a directory')
    const bytes = seededBytes('theirs', 3000)
    const blob = blobOf(bytes, 'text/plain', 'sha512')
    const canonical = blobOf(bytes, 'text/plain')
    await using theirs = await serving(startDistribution(version, storage))
    await theirs.client.pushBlob('a', blob)
    await using ours = await serving(startStowageOn(storage))
    // Its bytes lie under their sha256, and the link by sha512 leads there.
    await expectBlob(ours.client, 'a', canonical)
    await expectNoBlob(ours.client, 'a', blob.digest)
    await ours.client.pushBlob('a', blob)
    for (const { client } of [ours, theirs]) await expectBlob(client, 'a', blob)
  })
})
