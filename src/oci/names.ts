import { parseDigest, type Digest } from './digest.ts'
import { OciError } from './errors.ts'

declare const nameBrand: unique symbol
declare const tagBrand: unique symbol

/** A repository's `<name>` (specification, "Pulling manifests"), checked: safe to use as a path. */
export type RepositoryName = string & { readonly [nameBrand]: true }
export type Tag = string & { readonly [tagBrand]: true }
export type Reference = { readonly tag: Tag } | { readonly digest: Digest }

/** The specification's grammar, unchanged: it does not backtrack. */
const nameGrammar = /^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$/
const tagGrammar = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/

/** Clients limit host and name together to 255; a longer name would also exceed what a file system holds. */
const maxNameLength = 255

/** @throws OciError NAME_INVALID */
export function parseRepositoryName(text: string): RepositoryName {
  const name = tryParseRepositoryName(text)
  if (name) return name
  throw new OciError('NAME_INVALID', {
    message: `invalid repository name: lower-case letters, digits, and single . _ or - between them, in elements joined by "/", at most ${maxNameLength} characters`,
    detail: { name: text.slice(0, 300) },
  })
}

export function tryParseRepositoryName(text: string): RepositoryName | undefined {
  return text.length <= maxNameLength && nameGrammar.test(text) ? (text as RepositoryName) : undefined
}

/** @throws OciError TAG_INVALID */
export function parseTag(text: string): Tag {
  const tag = tryParseTag(text)
  if (tag) return tag
  throw new OciError('TAG_INVALID', {
    message: 'invalid tag: a letter, digit or "_", then at most 127 letters, digits, "_", "." or "-"',
    detail: { tag: text.slice(0, 300) },
  })
}

export function tryParseTag(text: string): Tag | undefined {
  return tagGrammar.test(text) ? (text as Tag) : undefined
}

/**
 * A `<tag-or-digest>`. A colon is not allowed in a tag, so what has one was meant as a digest.
 * @throws OciError DIGEST_INVALID | TAG_INVALID
 */
export function parseReference(text: string): Reference {
  if (text.includes(':')) return { digest: parseDigest(text) }
  return { tag: parseTag(text) }
}
