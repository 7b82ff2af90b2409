import { describe, expect, test } from '@jest/globals'
import { digestOf } from '../../src/oci/digest.ts'
import { parseRepositoryName } from '../../src/oci/names.ts'
import { layerLinkKey } from '../../src/registry/layout.ts'
import {
  bytesOf,
  errorOf,
  imageOf,
  jsonOf,
  openTestRegistry,
  pushBlob,
  pushImage,
  putManifest,
  type Answer,
  type TestRegistry,
} from '../support/registry.ts'

/** The target of a Link to the next page (RFC 8288), undefined where there is none. */
function nextOf({ headers }: Answer): string | undefined {
  if (headers.link === undefined) return undefined
  const [, target] = /^<(\/v2\/[!-~]+)>; rel="next"$/.exec(String(headers.link)) ?? []
  if (target === undefined) throw new Error(`not a well-formed Link: ${String(headers.link)}`)
  return target
}

/** Every page from a path on. */
async function followPages({ send }: TestRegistry, path: string): Promise<string[][]> {
  const pages: string[][] = []
  for (let next: string | undefined = path; next !== undefined;) {
    const answer = await send(`GET ${next}`)
    expect(answer.status).toBe(200)
    const { tags, repositories } = jsonOf<{ tags?: string[]; repositories?: string[] }>(answer)
    pages.push(tags ?? repositories ?? [])
    next = nextOf(answer)
    if (pages.length > 1_000) throw new Error('the pages do not end')
  }
  return pages
}

/** Tags of which one begins another, with every character that a tag may have. */
const trickyTags = [
  '0',
  '1',
  '1.0',
  '1.0.0',
  '1.0-rc.1',
  '10',
  'A',
  'Z',
  '_',
  '__',
  'a',
  'a-',
  'a-b',
  'a.',
  'a.b',
  'aB',
  'a_',
  'aa',
  'ab',
  'b',
  'latest',
  'x'.repeat(128),
]

async function openWithTags(tags: readonly string[]): Promise<TestRegistry> {
  const at = await openTestRegistry()
  const digest = await pushImage(at, 'a', digestOf(bytesOf(imageOf(['layer']))))
  for (let from = 0; from < tags.length; from += 100) {
    const query = tags.slice(from, from + 100).map((tag) => `tag=${tag}`)
    await at.send(`PUT /v2/a/manifests/${digest}?${query.join('&')}`, { body: bytesOf(imageOf(['layer'])) })
  }
  return at
}

describe('end-8: tags', () => {
  test('of a repository without tags are an empty list', async () => {
    await using at = await openTestRegistry()
    await pushBlob(at, 'only/blobs', 'content')
    expect(jsonOf(await at.send('GET /v2/only/blobs/tags/list'))).toEqual({ name: 'only/blobs', tags: [] })
  })

  test('of a repository that nobody knows are a 404, also of a folder of repositories', async () => {
    await using at = await openTestRegistry()
    await pushImage(at, 'a/b/c', 'v1')
    for (const name of ['b', 'a', 'a/b', 'a/b/c/d', 'a/b/cc']) {
      for (const query of ['', '?n=0', '?n=5&last=v0']) {
        expect(errorOf(await at.send(`GET /v2/${name}/tags/list${query}`))).toBe('404 NAME_UNKNOWN')
      }
    }
  })

  test('are all listed, in ASCII order, also where one begins another', async () => {
    await using at = await openWithTags(trickyTags.toReversed())
    const answer = await at.send('GET /v2/a/tags/list')
    expect(answer.headers['content-type']).toBe('application/json')
    expect(jsonOf(answer)).toEqual({ name: 'a', tags: trickyTags.toSorted() })
    expect(nextOf(answer)).toBeUndefined()
  })

  test.each([1, 2, 3, 7, 21, 22, 23, 1000])(
    'come in pages of %d, which the Link leads through to the end',
    async (n) => {
      await using at = await openWithTags(trickyTags)
      const pages = await followPages(at, `/v2/a/tags/list?n=${n}`)
      expect(pages.flat()).toEqual(trickyTags.toSorted())
      expect(pages.slice(0, -1).every((page) => page.length === n)).toBe(true)
      expect(pages).toHaveLength(Math.ceil(trickyTags.length / n))
    },
  )

  test('follow last, whether it is a tag here or not', async () => {
    await using at = await openWithTags(trickyTags)
    const sorted = trickyTags.toSorted()
    for (const last of [...sorted, 'a0', 'A0', 'zz', '1.']) {
      const { tags } = jsonOf<{ tags: string[] }>(await at.send(`GET /v2/a/tags/list?last=${last}`))
      expect(tags).toEqual(sorted.filter((tag) => tag > last))
      const page = await at.send(`GET /v2/a/tags/list?n=2&last=${last}`)
      expect(jsonOf<{ tags: string[] }>(page).tags).toEqual(tags.slice(0, 2))
      expect(nextOf(page) === undefined).toBe(tags.length <= 2)
    }
  })

  test('of which none are wanted are an empty list without a Link', async () => {
    await using at = await openWithTags(['a', 'b'])
    for (const query of ['n=0', 'n=0&last=a', 'n=000']) {
      const answer = await at.send(`GET /v2/a/tags/list?${query}`)
      expect(jsonOf(answer)).toEqual({ name: 'a', tags: [] })
      expect(answer.headers).not.toHaveProperty('link')
    }
  })

  test.each(['-1', 'x', '1.5', '', '0x10', '1e3', '+1', '9999999999999999999', '%00'])(
    'of "%s" cannot be asked for',
    async (n) => {
      await using at = await openWithTags(['a'])
      expect(errorOf(await at.send(`GET /v2/a/tags/list?n=${n}`))).toBe('400 UNSUPPORTED')
    },
  )

  test.each(['a/b', '../b', '-', '%00', '%0d%0aX:%20y', 'x'.repeat(2000), '%f0%9f%98%80', '%ff'])(
    'after a last that is no tag cannot be asked for: "%s"',
    async (last) => {
      await using at = await openWithTags(['a', 'b'])
      const answer = await at.send(`GET /v2/a/tags/list?n=1&last=${last}`)
      expect(errorOf(answer)).toBe('400 TAG_INVALID')
    },
  )

  test('after an empty last are the first ones', async () => {
    await using at = await openWithTags(['a', 'b'])
    expect(jsonOf(await at.send('GET /v2/a/tags/list?n=1&last='))).toEqual({ name: 'a', tags: ['a'] })
  })

  test('of many are more than one answer holds only where that was asked', async () => {
    const tags = Array.from({ length: 1500 }, (_, index) => `t${index}`)
    await using at = await openWithTags(tags)
    const answer = await at.send('GET /v2/a/tags/list')
    expect(jsonOf<{ tags: string[] }>(answer).tags).toEqual(tags.toSorted())
    expect(await followPages(at, '/v2/a/tags/list?n=1000')).toHaveLength(2)
  })

  test('pages hold while tags come and go', async () => {
    await using at = await openWithTags(['b', 'd', 'f', 'h'])
    const first = await at.send('GET /v2/a/tags/list?n=2')
    await at.send('DELETE /v2/a/manifests/d')
    for (const tag of ['a', 'e']) await putManifest(at, 'a', tag, imageOf(['layer']))
    expect(await followPages(at, nextOf(first) ?? '')).toEqual([['e', 'f'], ['h']])
  })
})

describe('_catalog', () => {
  /** Repositories inside of repositories, and names that sort before, at and after the slash. */
  const names = [
    'a',
    'a-b',
    'a-b/c',
    'a.b',
    'a/b',
    'a/b-c',
    'a/b/c',
    'a/b/c/d',
    'a0',
    'a_b',
    'aa',
    'ab/c',
    'b',
    'b/a',
    'b0/deep/er',
    'manifests',
    'tags/list',
    'blobs/uploads',
    'z',
  ]

  async function openWithRepositories(): Promise<TestRegistry> {
    const at = await openTestRegistry()
    for (const name of names.toReversed()) await pushBlob(at, name, 'content')
    return at
  }

  test('lists every repository in ASCII order, also those below others', async () => {
    await using at = await openWithRepositories()
    const answer = await at.send('GET /v2/_catalog')
    expect(jsonOf(answer)).toEqual({ repositories: names.toSorted() })
    expect(nextOf(answer)).toBeUndefined()
  })

  test.each([1, 2, 3, 5, 18, 19, 20])(
    'comes in pages of %d, which the Link leads through to the end',
    async (n) => {
      await using at = await openWithRepositories()
      const pages = await followPages(at, `/v2/_catalog?n=${n}`)
      expect(pages.flat()).toEqual(names.toSorted())
      expect(pages).toHaveLength(Math.ceil(names.length / n))
    },
  )

  test('follows last, whether it is a repository here or not', async () => {
    await using at = await openWithRepositories()
    for (const last of [...names, 'a/', 'a/a', 'a-', 'ab', 'b0', 'b0/deep', 'zz', '/', '-', '~']) {
      const { repositories } = jsonOf<{ repositories: string[] }>(
        await at.send(`GET /v2/_catalog?last=${last}`),
      )
      expect(repositories).toEqual(names.toSorted().filter((name) => name > last))
    }
  })

  test('is empty where nothing was pushed, and where nothing is wanted', async () => {
    await using at = await openTestRegistry()
    expect(jsonOf(await at.send('GET /v2/_catalog'))).toEqual({ repositories: [] })
    await pushBlob(at, 'a', 'content')
    const answer = await at.send('GET /v2/_catalog?n=0')
    expect(jsonOf(answer)).toEqual({ repositories: [] })
    expect(answer.headers).not.toHaveProperty('link')
    expect(errorOf(await at.send('GET /v2/_catalog?n=-1'))).toBe('400 UNSUPPORTED')
  })

  test('does not show an upload under way as a repository', async () => {
    await using at = await openTestRegistry()
    await at.send('POST /v2/a/blobs/uploads/')
    expect(jsonOf(await at.send('GET /v2/_catalog'))).toEqual({ repositories: [] })
    expect(errorOf(await at.send('GET /v2/a/tags/list'))).toBe('404 NAME_UNKNOWN')
  })

  test('of more than a thousand goes on behind the Link, also where more was asked for', async () => {
    await using at = await openTestRegistry()
    const many = Array.from({ length: 1100 }, (_, index) => `r${index}`)
    const digest = await pushBlob(at, 'a', 'content')
    for (const name of many) {
      await at.driver.write(layerLinkKey(parseRepositoryName(name), digest), Buffer.from(digest))
    }
    const pages = await followPages(at, '/v2/_catalog?n=5000')
    expect(pages.map((page) => page.length)).toEqual([1000, 101])
    expect(pages.flat()).toEqual(['a', ...many].toSorted())
  })
})
