import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { digestOf } from '../../../src/oci/digest.ts'
import { OciError } from '../../../src/oci/errors.ts'
import { parseManifest } from '../../../src/oci/manifest.ts'
import { isManifestMediaType, mediaTypes } from '../../../src/oci/media-types.ts'

const encode = (document: unknown) => Buffer.from(JSON.stringify(document))

const descriptor = fc.record(
  {
    mediaType: fc.constantFrom(
      'application/a',
      mediaTypes.imageManifest,
      mediaTypes.dockerManifestList,
      'application/vnd.oci.image.layer.nondistributable.v1.tar',
      'x',
    ),
    digest: fc.uint8Array().map((bytes) => digestOf(bytes)),
    size: fc.nat(),
    artifactType: fc.string(),
    annotations: fc.dictionary(fc.string(), fc.string()),
  },
  { requiredKeys: ['mediaType', 'digest', 'size'] },
)
const annotations = fc.dictionary(fc.string(), fc.string())
const image = fc.record(
  {
    schemaVersion: fc.constant(2),
    mediaType: fc.constant(mediaTypes.imageManifest),
    config: descriptor,
    layers: fc.array(descriptor),
    subject: descriptor,
    artifactType: fc.string(),
    annotations,
  },
  { requiredKeys: ['schemaVersion', 'config'] },
)
const index = fc.record(
  {
    schemaVersion: fc.constant(2),
    mediaType: fc.constant(mediaTypes.imageIndex),
    manifests: fc.array(descriptor),
    subject: descriptor,
    artifactType: fc.string(),
    annotations,
  },
  { requiredKeys: ['schemaVersion', 'manifests'] },
)

describe('a manifest', () => {
  test('that is an image refers to its config and layers, each once, here or elsewhere', () => {
    fc.assert(
      fc.property(image, (document) => {
        const manifest = parseManifest(encode(document))
        expect(manifest.mediaType).toBe(mediaTypes.imageManifest)
        expect(manifest.children).toEqual([])
        expect(manifest.hasMediaType).toBe(document.mediaType !== undefined)
        const expected = [document.config, ...(document.layers ?? [])].map(({ digest }) => digest)
        expect([...manifest.blobs, ...manifest.foreignBlobs].map(({ digest }) => digest).toSorted()).toEqual(
          expected.toSorted(),
        )
        expect(manifest.foreignBlobs.every(({ mediaType }) => mediaType.includes('nondistributable'))).toBe(
          true,
        )
        expect(manifest.subject).toBe(document.subject?.digest)
        expect(manifest.artifactType).toBe(document.artifactType || document.config.mediaType)
      }),
    )
  })

  test('that is an index refers to its children, and has only an artifactType of its own', () => {
    fc.assert(
      fc.property(index, (document) => {
        const manifest = parseManifest(encode(document))
        expect(manifest.mediaType).toBe(mediaTypes.imageIndex)
        const isChild = ({ mediaType }: { mediaType: string }) => isManifestMediaType(mediaType)
        expect(manifest.blobs).toEqual([])
        expect(manifest.children).toMatchObject(document.manifests.filter(isChild))
        expect(manifest.foreignBlobs).toMatchObject(document.manifests.filter((entry) => !isChild(entry)))
        expect(manifest.artifactType).toBe(document.artifactType || undefined)
      }),
    )
  })

  test('keeps all annotations as they are, also those with names that JavaScript knows', () => {
    fc.assert(
      fc.property(image, (document) => {
        const parsed = parseManifest(encode(document)).annotations
        // As another JSON reader sees them.
        expect(JSON.stringify(parsed)).toBe(JSON.stringify(document.annotations))
      }),
    )
    const bytes = Buffer.from(
      `{"schemaVersion":2,"manifests":[],"annotations":{"__proto__":"a","constructor":"b","toString":"c"}}`,
    )
    expect(Object.entries(parseManifest(bytes).annotations ?? {})).toEqual([
      ['__proto__', 'a'],
      ['constructor', 'b'],
      ['toString', 'c'],
    ])
    expect({}).not.toHaveProperty('a')
  })

  test('is what its Content-Type says, with or without parameters, or is refused', () => {
    fc.assert(
      fc.property(
        fc.oneof(image, index),
        fc.constantFrom(...Object.values(mediaTypes), 'text/html', '__proto__'),
        (document, type) => {
          const own = 'manifests' in document ? mediaTypes.imageIndex : mediaTypes.imageManifest
          for (const contentType of [type, `${type};charset=utf-8`, ` ${type} ; a="b;c"`]) {
            const parse = () => parseManifest(encode(document), contentType)
            if (type === own) expect(parse().mediaType).toBe(own)
            else expect(parse).toThrow(expect.objectContaining({ code: 'MANIFEST_INVALID' }))
          }
        },
      ),
    )
  })

  test('of any bytes and any JSON is read, or refused as invalid; nothing else is ever thrown', () => {
    const mutated = fc
      .tuple(
        fc.oneof(image, index),
        fc.constantFrom(
          'schemaVersion',
          'mediaType',
          'config',
          'layers',
          'manifests',
          'subject',
          'artifactType',
          'annotations',
          'blobs',
        ),
        fc.jsonValue(),
      )
      .map(([document, field, value]) => encode({ ...document, [field]: value }))
    const bytes = fc.oneof(
      mutated,
      fc.json().map((text) => Buffer.from(text)),
      fc.uint8Array(),
      fc.tuple(image, fc.nat(400), fc.nat(255)).map(([document, at, byte]) => {
        const encoded = encode(document)
        encoded[at % encoded.length] = byte
        return encoded
      }),
    )
    fc.assert(
      fc.property(
        bytes,
        fc.option(fc.constantFrom(...Object.values(mediaTypes)), { nil: undefined }),
        (document, contentType) => {
          try {
            expect(Object.values(mediaTypes)).toContain(parseManifest(document, contentType).mediaType)
          } catch (error) {
            expect(error).toBeInstanceOf(OciError)
            expect(error).toMatchObject({ code: 'MANIFEST_INVALID', status: 400 })
          }
        },
      ),
      { numRuns: 2_000 },
    )
  })

  test('that nests deeper than any stack is refused, or read past', () => {
    const deep = '['.repeat(500_000) + ']'.repeat(500_000)
    for (const text of [
      deep,
      `{"schemaVersion":2,"manifests":[],"x":${deep}}`,
      `{"schemaVersion":2,"manifests":${deep}}`,
    ]) {
      try {
        expect(parseManifest(Buffer.from(text)).mediaType).toBe(mediaTypes.imageIndex)
      } catch (error) {
        expect(error).toMatchObject({ code: 'MANIFEST_INVALID' })
      }
    }
  })
})
