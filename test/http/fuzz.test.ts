import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { digestOf } from '../../src/oci/digest.ts'
import { mediaTypes } from '../../src/oci/media-types.ts'
import { roots } from '../../src/registry/layout.ts'
import {
  descriptorOf,
  errorOf,
  imageOf,
  indexOf,
  keysOf,
  openTestRegistry,
  pushBlob,
  type TestRegistry,
} from '../support/registry.ts'

let at: TestRegistry
beforeAll(async () => {
  at = await openTestRegistry()
  for (const blob of ['{}', 'layer']) await pushBlob(at, 'a', blob)
})
afterAll(async () => at[Symbol.asyncDispose]())

const bases = [
  imageOf(['layer']),
  imageOf([], { subject: descriptorOf('subject', mediaTypes.imageManifest), annotations: { a: 'b' } }),
  indexOf([descriptorOf('absent', mediaTypes.imageManifest)]),
  { ...imageOf(['layer']), mediaType: mediaTypes.dockerManifest },
  { ...indexOf([]), mediaType: mediaTypes.dockerManifestList },
]

/** Values that parsers get wrong, and any JSON. */
const value = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    '',
    '__proto__',
    [],
    {},
    [null],
    [[]],
    -1,
    1e300,
    2 ** 53,
    0.5,
    '\u0000',
    'sha256:',
    {
      digest: '../..',
    },
  ),
  fc.jsonValue(),
)

/** A manifest in which one value, at any depth, became another, or went. */
const mutated = fc
  .tuple(fc.constantFrom(...bases), fc.nat(30), fc.boolean(), value)
  .map(([base, position, isGone, other]) => {
    let count = 0
    return (
      JSON.stringify(base, (_key, inner: unknown) =>
        count++ === position + 1 ? (isGone ? undefined : other) : inner,
      ) ?? ''
    )
  })
/** Its text with a piece put in or cut out. */
const torn = fc
  .tuple(fc.constantFrom(...bases), fc.nat(500), fc.nat(20), fc.string({ maxLength: 5 }))
  .map(([base, position, count, piece]) => {
    const text = JSON.stringify(base)
    return text.slice(0, position % text.length) + piece + text.slice((position % text.length) + count)
  })
const anything = fc.oneof(
  fc.json(),
  fc.string(),
  fc.uint8Array().map((bytes) => Buffer.from(bytes).toString('latin1')),
)
const contentType = fc.oneof(
  fc.constantFrom('', ...Object.values(mediaTypes)),
  fc.constantFrom('application/json', 'text/plain; charset=utf-8', ';', '/', `${mediaTypes.imageIndex};x`),
)

describe('any document, under any type, pushed as a manifest', () => {
  test('is stored byte for byte and pulled, or is refused and unknown; never anything else', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof({ weight: 3, arbitrary: mutated }, torn, anything),
        contentType,
        fc.boolean(),
        async (text, type, byDigest) => {
          const bytes = Buffer.from(text)
          const digest = digestOf(bytes)
          const before = await at.send(`GET /v2/a/manifests/${digest}`)
          const put = await at.send(`PUT /v2/a/manifests/${byDigest ? digest : 'tag'}`, {
            body: bytes,
            headers: type === '' ? {} : { 'Content-Type': type },
          })
          const after = await at.send(`GET /v2/a/manifests/${digest}`)
          if (put.status === 201) {
            expect(after.status).toBe(200)
            expect(after.body).toEqual(bytes)
            expect(after.headers['docker-content-digest']).toBe(digest)
            // A client that checks it finds the type that the document says it has.
            const said = (JSON.parse(text) as { mediaType?: string }).mediaType
            if (said) expect(after.headers['content-type']).toBe(said)
          } else {
            expect(['400 MANIFEST_INVALID', '404 MANIFEST_BLOB_UNKNOWN']).toContain(errorOf(put))
            expect(after.status).toBe(before.status)
          }
        },
      ),
      { numRuns: 600 },
    )
    // What is linked is there, whatever went before.
    const links = (await keysOf(at.driver, roots.distribution)).filter((key) => key.includes('/revisions/'))
    expect(links.length).toBeGreaterThan(0)
    for (const link of links) {
      const digest = String(await at.driver.read(link))
      expect((await at.send(`GET /v2/a/manifests/${digest}`)).status).toBe(200)
    }
    expect((await at.send('GET /v2/a/tags/list')).status).toBe(200)
  })
})

describe('any path and any query', () => {
  const piece = fc.constantFrom(
    'v2',
    'a',
    'b',
    '_catalog',
    'blobs',
    'uploads',
    'manifests',
    'tags',
    'list',
    'referrers',
    'latest',
    `sha256:${'0'.repeat(64)}`,
    '..',
    '.',
    '',
    '%2e%2e',
    '%2F',
    '%00',
    '%',
    '%ff',
    'A',
    '__proto__',
    '00000000-0000-4000-8000-000000000000',
    '"',
    "'",
    '<',
    '`',
    '|',
    '^',
    '{}',
    '~',
    '*',
    '@',
    ';',
    '=',
    ',',
  )
  const shape = fc.constantFrom(
    'N/manifests/L',
    'N/blobs/L',
    'N/blobs/uploads/',
    'N/blobs/uploads/L',
    'N/tags/list',
    'N/referrers/L',
    '_catalog',
  )
  const path = fc.oneof(
    fc.array(piece, { maxLength: 8 }).map((pieces) => `/v2/${pieces.join('/')}`),
    fc
      .tuple(shape, fc.oneof(fc.constant('a'), piece), piece)
      .map(([text, name, last]) => `/v2/${text.replace('N', name).replace('L', last)}`),
  )
  const query = fc.oneof(
    fc.webQueryParameters(),
    fc
      .array(
        fc.tuple(
          fc.constantFrom(
            'n',
            'last',
            'digest',
            'mount',
            'from',
            'tag',
            'artifactType',
            'ns',
            'digest-algorithm',
          ),
          fc.oneof(piece, fc.nat(3).map(String)),
        ),
        { maxLength: 3 },
      )
      .map((pairs) => pairs.map((pair) => pair.join('=')).join('&')),
  )
  const method = fc.constantFrom('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS')
  const header = fc.constantFrom(
    {},
    { Range: 'bytes=0-0' },
    { Range: 'bytes=9999999999999999999999-' },
    { 'Content-Range': '0-1' },
    { 'Content-Range': 'x' },
    { 'If-None-Match': '*' },
    { 'If-Range': '"' },
    { 'Content-Type': '\x80' },
    { Accept: '*/*;q=x' },
  )

  test('are answered, and every refusal has the form of the specification', async () => {
    await fc.assert(
      fc.asyncProperty(
        method,
        path,
        query,
        header,
        fc.constantFrom(undefined, '', '{}'),
        async (verb, where, question, headers, body) => {
          const target = `${verb} ${where}${question === '' ? '' : `?${question}`}`
          const answer = await at.send(target, {
            headers,
            ...(body !== undefined && verb !== 'HEAD' && verb !== 'GET' ? { body } : {}),
          })
          expect(answer.status).toBeLessThan(500)
          expect(answer.headers['docker-distribution-api-version']).toBe('registry/2.0')
          if (answer.status < 400 || verb === 'HEAD') return
          expect(errorOf(answer)).toMatch(/^4\d\d [A-Z_]+$/)
        },
      ),
      { numRuns: 1_000 },
    )
  })
})
