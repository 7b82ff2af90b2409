import { createHash, type Hash } from 'node:crypto'
import { OciError } from './errors.ts'

declare const digestBrand: unique symbol

/** `<algorithm>:<lower-case hex>`, checked. The only way to get one is to parse or to compute it. */
export type Digest = string & { readonly [digestBrand]: true }

/** The algorithms that we take, with the length of their hex form (image-spec, "Registered Algorithms"). */
const hexLengths = { sha256: 64, sha512: 128 } as const

export type Algorithm = keyof typeof hexLengths
export const algorithms: readonly Algorithm[] = ['sha256', 'sha512']

/** @throws OciError DIGEST_INVALID */
export function parseDigest(text: string): Digest {
  const digest = tryParseDigest(text)
  if (digest) return digest
  throw new OciError('DIGEST_INVALID', {
    message: 'invalid digest: expected sha256:<64 hex digits> or sha512:<128 hex digits>, in lower case',
    detail: { digest: text.slice(0, 200) },
  })
}

export function tryParseDigest(text: string): Digest | undefined {
  const colon = text.indexOf(':')
  const length = Object.hasOwn(hexLengths, text.slice(0, colon))
    ? hexLengths[text.slice(0, colon) as Algorithm]
    : undefined
  if (length === undefined || text.length !== colon + 1 + length) return undefined
  return /^[0-9a-f]+$/.test(text.slice(colon + 1)) ? (text as Digest) : undefined
}

/** @throws OciError DIGEST_INVALID */
export function parseAlgorithm(text: string): Algorithm {
  if (Object.hasOwn(hexLengths, text)) return text as Algorithm
  throw new OciError('DIGEST_INVALID', {
    message: `unsupported digest algorithm: expected ${algorithms.join(' or ')}`,
    detail: { algorithm: text.slice(0, 200) },
  })
}

export function algorithmOf(digest: Digest): Algorithm {
  return digest.slice(0, digest.indexOf(':')) as Algorithm
}

export function hexOf(digest: Digest): string {
  return digest.slice(digest.indexOf(':') + 1)
}

export function digestOf(bytes: Uint8Array, algorithm: Algorithm = 'sha256'): Digest {
  return finishHash(createHash(algorithm).update(bytes), algorithm)
}

export function startHash(algorithm: Algorithm): Hash {
  return createHash(algorithm)
}

/** Ends the hash: it takes no further bytes. */
export function finishHash(hash: Hash, algorithm: Algorithm): Digest {
  return `${algorithm}:${hash.digest('hex')}` as Digest
}
