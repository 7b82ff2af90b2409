import { describe, expect, test } from '@jest/globals'
import { digestOf } from '../../src/oci/digest.ts'
import { mediaTypes } from '../../src/oci/media-types.ts'
import { parseRepositoryName } from '../../src/oci/names.ts'
import { referrersCompleteKey, repositoryReferrersCompleteKey } from '../../src/registry/layout.ts'
import { memoryDriver } from '../../src/storage/memory.ts'
import type { Driver } from '../../src/storage/driver.ts'
import {
  bytesOf,
  configType,
  descriptorOf,
  errorOf,
  imageOf,
  indexOf,
  jsonOf,
  keysOf,
  openTestRegistry,
  pushImage,
  putManifest,
  type Answer,
  type TestRegistry,
} from '../support/registry.ts'

interface Descriptor {
  readonly digest: string
  readonly [field: string]: unknown
}

function descriptorsIn(answer: Answer): Descriptor[] {
  expect(answer.status).toBe(200)
  expect(answer.headers['content-type']).toBe(mediaTypes.imageIndex)
  const { manifests, ...rest } = jsonOf<{ manifests: Descriptor[] }>(answer)
  expect(rest).toEqual({ schemaVersion: 2, mediaType: mediaTypes.imageIndex })
  return manifests
}

async function referrersOf(
  { send }: TestRegistry,
  name: string,
  subject: string,
  query = '',
): Promise<Descriptor[]> {
  return descriptorsIn(await send(`GET /v2/${name}/referrers/${subject}${query}`))
}

const subjectBytes = bytesOf(imageOf(['layer']))
const subject = {
  mediaType: mediaTypes.imageManifest,
  digest: digestOf(subjectBytes),
  size: subjectBytes.length,
}
const zero = `sha256:${'0'.repeat(64)}`

async function pushReferrer(at: TestRegistry, name: string, more: object): Promise<Descriptor> {
  const manifest = imageOf([], { subject, ...more })
  const digest = digestOf(bytesOf(manifest))
  const answer = await putManifest(at, name, digest, manifest)
  expect(answer).toMatchObject({ status: 201, headers: { 'oci-subject': subject.digest } })
  return { mediaType: manifest.mediaType, digest, size: bytesOf(manifest).length }
}

describe('end-12: referrers', () => {
  test('are never a 404: of what nobody knows there are none', async () => {
    await using at = await openTestRegistry()
    expect(await referrersOf(at, 'nobody/knows', zero)).toEqual([])
    expect(await keysOf(at.driver, 'stowage/repositories')).toEqual([])
    await pushImage(at, 'a', 'v1')
    for (const digest of [zero, subject.digest, `sha512:${'0'.repeat(128)}`]) {
      expect(await referrersOf(at, 'a', digest)).toEqual([])
    }
  })

  test('of what is no digest, or no name, are a 400', async () => {
    await using at = await openTestRegistry()
    for (const digest of ['sha256:x', 'latest', `md5:${'0'.repeat(32)}`, `${zero}%00`]) {
      expect(errorOf(await at.send(`GET /v2/a/referrers/${digest}`))).toBe('400 DIGEST_INVALID')
    }
    expect(errorOf(await at.send(`GET /v2/A/referrers/${zero}`))).toBe('400 NAME_INVALID')
  })

  test('have their artifactType, else that of their config, and all annotations, in the order of digests', async () => {
    await using at = await openTestRegistry()
    await pushImage(at, 'a', 'v1')
    const annotations = { 'org.example.a': '1', 'with "quotes"\n': 'and\ttabs ✓', constructor: 'x' }
    const expected = [
      {
        ...(await pushReferrer(at, 'a', { artifactType: 'application/example', annotations })),
        artifactType: 'application/example',
        annotations,
      },
      { ...(await pushReferrer(at, 'a', {})), artifactType: configType },
      {
        ...(await pushReferrer(at, 'a', { artifactType: '', annotations: {} })),
        artifactType: configType,
        annotations: {},
      },
    ]
    expect(await referrersOf(at, 'a', subject.digest)).toEqual(
      expected.toSorted((a, b) => (a.digest < b.digest ? -1 : 1)),
    )
  })

  test('may be indexes, which have only an artifactType of their own', async () => {
    await using at = await openTestRegistry()
    for (const more of [{ artifactType: 'application/example' }, { annotations: { a: 'b' } }]) {
      const index = indexOf([], { subject, ...more })
      const put = await putManifest(at, 'a', digestOf(bytesOf(index)), index)
      expect(put).toMatchObject({ status: 201, headers: { 'oci-subject': subject.digest } })
      expect(await referrersOf(at, 'a', subject.digest)).toContainEqual({
        mediaType: mediaTypes.imageIndex,
        digest: digestOf(bytesOf(index)),
        size: bytesOf(index).length,
        ...more,
      })
    }
  })

  test('may refer to an index, and to other referrers', async () => {
    await using at = await openTestRegistry()
    await pushImage(at, 'a', 'v1')
    const index = bytesOf(indexOf([]))
    await putManifest(at, 'a', 'index', index)
    const signature = imageOf([], { subject: descriptorOf(index, mediaTypes.imageIndex) })
    await putManifest(at, 'a', 'signature', signature)
    const signed = imageOf([], { subject: descriptorOf(bytesOf(signature), mediaTypes.imageManifest) })
    await putManifest(at, 'a', 'signed', signed)
    expect(await referrersOf(at, 'a', digestOf(index))).toMatchObject([
      { digest: digestOf(bytesOf(signature)) },
    ])
    expect(await referrersOf(at, 'a', digestOf(bytesOf(signature)))).toMatchObject([
      { digest: digestOf(bytesOf(signed)) },
    ])
  })

  test('may come before their subject, and stay when it is deleted', async () => {
    await using at = await openTestRegistry()
    await pushImage(at, 'a', 'other', { annotations: { other: 'yes' } })
    const { digest } = await pushReferrer(at, 'a', {})
    expect(await referrersOf(at, 'a', subject.digest)).toMatchObject([{ digest }])
    expect((await putManifest(at, 'a', 'v1', subjectBytes)).status).toBe(201)
    expect(await referrersOf(at, 'a', subject.digest)).toMatchObject([{ digest }])
    await at.send(`DELETE /v2/a/manifests/${subject.digest}`)
    expect(await referrersOf(at, 'a', subject.digest)).toMatchObject([{ digest }])
  })

  test('vanish when they are deleted, and come back when they are pushed again', async () => {
    await using at = await openTestRegistry()
    await pushImage(at, 'a', 'v1')
    const { digest } = await pushReferrer(at, 'a', {})
    expect((await at.send(`DELETE /v2/a/manifests/${digest}`)).status).toBe(202)
    expect(await referrersOf(at, 'a', subject.digest)).toEqual([])
    await pushReferrer(at, 'a', {})
    expect(await referrersOf(at, 'a', subject.digest)).toMatchObject([{ digest }])
  })

  test('are listed once, however often and under however many tags they were pushed', async () => {
    await using at = await openTestRegistry()
    await pushImage(at, 'a', 'v1')
    for (const tag of ['t1', 't2', 't2']) await putManifest(at, 'a', tag, imageOf([], { subject }))
    expect(await referrersOf(at, 'a', subject.digest)).toHaveLength(1)
  })

  test('of one repository are not those of another', async () => {
    await using at = await openTestRegistry()
    for (const name of ['a', 'a/b']) await pushImage(at, name, 'v1')
    await pushReferrer(at, 'a/b', {})
    expect(await referrersOf(at, 'a', subject.digest)).toEqual([])
    expect(await referrersOf(at, 'a/b', subject.digest)).toHaveLength(1)
  })

  test('with sha512 are listed under sha512', async () => {
    await using at = await openTestRegistry()
    await pushImage(at, 'a', 'v1')
    const sha512 = { ...subject, digest: digestOf(subjectBytes, 'sha512') }
    const manifest = imageOf([], { subject: sha512 })
    const digest = digestOf(bytesOf(manifest), 'sha512')
    expect((await putManifest(at, 'a', digest, manifest)).headers['oci-subject']).toBe(sha512.digest)
    expect(await referrersOf(at, 'a', sha512.digest)).toMatchObject([{ digest }])
    expect(await referrersOf(at, 'a', subject.digest)).toEqual([])
  })
})

describe('end-12b: a filter', () => {
  test('by artifactType is applied, and says so', async () => {
    await using at = await openTestRegistry()
    await pushImage(at, 'a', 'v1')
    const types = ['application/vnd.example.sbom.v1+json', 'application/vnd.example.signature']
    for (const artifactType of types) await pushReferrer(at, 'a', { artifactType })
    for (const artifactType of types) {
      const answer = await at.send(
        `GET /v2/a/referrers/${subject.digest}?artifactType=${encodeURIComponent(artifactType)}`,
      )
      expect(answer.headers['oci-filters-applied']).toBe('artifactType')
      expect(descriptorsIn(answer)).toMatchObject([{ artifactType }])
    }
    const none = await at.send(`GET /v2/a/referrers/${subject.digest}?artifactType=application/other`)
    expect(none.headers['oci-filters-applied']).toBe('artifactType')
    expect(descriptorsIn(none)).toEqual([])
    const all = await at.send(`GET /v2/a/referrers/${subject.digest}`)
    expect(all.headers).not.toHaveProperty('oci-filters-applied')
    expect(descriptorsIn(all)).toHaveLength(2)
  })
})

describe('a list that no manifest could hold', () => {
  test('goes on behind its Link, with its filter, and ends', async () => {
    await using at = await openTestRegistry()
    await pushImage(at, 'a', 'v1')
    const digests: string[] = []
    for (let index = 0; index < 7; index++) {
      const annotations = { large: String(index).repeat(1024 * 1024) }
      const artifactType = index === 3 ? 'application/other' : 'application/example'
      const { digest } = await pushReferrer(at, 'a', { annotations, artifactType })
      if (index !== 3) digests.push(digest)
    }
    const pages: string[][] = []
    let next: string | undefined = `/v2/a/referrers/${subject.digest}?artifactType=application%2Fexample`
    while (next !== undefined) {
      const answer: Answer = await at.send(`GET ${next}`)
      expect(answer.headers['oci-filters-applied']).toBe('artifactType')
      expect(answer.body.length).toBeLessThan(4 * 2 ** 20)
      pages.push(descriptorsIn(answer).map(({ digest }) => digest))
      next =
        answer.headers.link === undefined
          ? undefined
          : /^<([!-~]+)>; rel="next"$/.exec(String(answer.headers.link))?.[1]
    }
    expect(pages.length).toBeGreaterThan(1)
    expect(pages.flat()).toEqual(digests.toSorted())
  })
})

describe('a repository that another registry wrote', () => {
  /** What a bucket looks like to which nobody added referrer links: ours, without them. */
  async function withoutLinks(): Promise<Driver> {
    const driver = memoryDriver()
    await using at = await openTestRegistry({ driver })
    await pushImage(at, 'a', 'v1')
    await pushReferrer(at, 'a', { artifactType: 'application/one' })
    await pushReferrer(at, 'a', { artifactType: 'application/two' })
    await driver.remove(await keysOf(driver, 'stowage/'))
    return driver
  }

  test('is looked through at its first request for referrers, and only then', async () => {
    const driver = await withoutLinks()
    await using at = await openTestRegistry({ driver })
    expect(await referrersOf(at, 'a', subject.digest)).toHaveLength(2)
    expect(await keysOf(driver, 'stowage/repositories')).toContain(
      repositoryReferrersCompleteKey(parseRepositoryName('a')),
    )
    let reads = 0
    const counting = {
      ...driver,
      read: (...args: Parameters<Driver['read']>) => {
        if (args[0].includes('/blobs/')) reads++
        return driver.read(...args)
      },
    }
    await using other = await openTestRegistry({ driver: counting })
    expect(await referrersOf(other, 'a', subject.digest)).toHaveLength(2)
    expect(reads).toBe(0)
  })

  test('is asked by many at once, and all see all', async () => {
    await using at = await openTestRegistry({ driver: await withoutLinks() })
    const lists = await Promise.all(Array.from({ length: 8 }, () => referrersOf(at, 'a', subject.digest)))
    expect(lists.map((list) => list.length)).toEqual(Array(8).fill(2))
  })

  test('shows what is pushed before and after it was looked through', async () => {
    await using at = await openTestRegistry({ driver: await withoutLinks() })
    await pushReferrer(at, 'a', { artifactType: 'application/three' })
    expect(await referrersOf(at, 'a', subject.digest)).toHaveLength(3)
    await pushReferrer(at, 'a', { artifactType: 'application/four' })
    expect(await referrersOf(at, 'a', subject.digest)).toHaveLength(4)
  })

  test('a bucket that was ours from the start is never looked through', async () => {
    await using at = await openTestRegistry()
    await pushImage(at, 'a', 'v1')
    expect(await referrersOf(at, 'a', subject.digest)).toEqual([])
    const keys = await keysOf(at.driver, 'stowage/')
    expect(keys).toContain(referrersCompleteKey)
    expect(keys).not.toContain(repositoryReferrersCompleteKey(parseRepositoryName('a')))
  })
})
