/** Where registries list different things for one storage, and names that begin with each other. */
import { afterAll, describe, expect, test } from '@jest/globals'
import { distributionVersions, startDistribution } from '../support/distribution.ts'
import { blobOf, buildImage } from '../support/images.ts'
import { expectManifest, expectNoManifest } from '../support/image-transfer.ts'
import { createStorages, serving, startStowageOn, storageKinds } from './storages.ts'

const storages = createStorages()
afterAll(() => storages.remove())

const cases = distributionVersions.flatMap((version) => storageKinds.map((kind) => ({ version, kind })))

describe.each(cases)('what distribution $version left in $kind', ({ version, kind }) => {
  test('as tags that begin with each other is listed whole, and one is deleted alone', async () => {
    const storage = await storages.create(kind)
    const tags = ['x', 'x-y', 'x.y', 'xy', 'x_y']
    const image = buildImage('tags')
    await using theirs = await serving(startDistribution(version, storage))
    await theirs.client.push('a', image, { tags })
    await using ours = await serving(startStowageOn(storage))
    expect(await ours.client.listTags('a')).toEqual(tags.toSorted())

    await ours.client.deleteManifest('a', 'x')
    const left = tags.filter((tag) => tag !== 'x')
    expect(await ours.client.listTags('a')).toEqual(left.toSorted())
    expect((await theirs.client.listTags('a'))?.toSorted()).toEqual(left.toSorted())
    for (const { client } of [ours, theirs]) {
      await expectNoManifest(client, 'a', 'x')
      for (const tag of left) await expectManifest(client, 'a', tag, image)
    }
  })

  test('as an unfinished upload is no repository, and as blobs alone is one', async () => {
    const storage = await storages.create(kind)
    await using theirs = await serving(startDistribution(version, storage))
    const opened = await theirs.client.request('unfinished/blobs/uploads/', { method: 'POST' })
    expect(opened.status).toBe(202)
    await theirs.client.pushBlob('blobs/only', blobOf(Buffer.from('alone'), 'text/plain'))
    await theirs.client.push('whole', buildImage('whole'), { tags: ['v1'] })
    await using ours = await serving(startStowageOn(storage))
    expect(await ours.client.listRepositories()).toEqual(['blobs/only', 'whole'])
    expect(await ours.client.listTags('unfinished')).toBeUndefined()
    expect(await ours.client.listTags('blobs/only')).toEqual([])
    // Version 3 takes what has manifests for a repository, 2.8 what has layers, as we do with either.
    expect(await theirs.client.listRepositories()).toEqual(
      version === '3' ? ['whole'] : ['blobs/only', 'whole'],
    )
  })
})
