/**
 * Every key in the bucket; nobody else joins strings to keys. What lies under docker/ is the layout of CNCF
 * distribution, so that a bucket can be served in place and left again:
 *
 *   docker/registry/v2/
 *     blobs/<alg>/<2 hex>/<hex>/data                              layers, configs and manifests
 *     repositories/<name>/
 *       _layers/<alg>/<hex>/link                                  body: the digest
 *       _manifests/revisions/<alg>/<hex>/link
 *       _manifests/tags/<tag>/current/link
 *       _manifests/tags/<tag>/index/<alg>/<hex>/link              every digest that the tag ever had
 *   stowage/                                                      ours; other registries leave it alone
 *     gc/claim                                                    whose bucket this is, and the times all agree on
 *     gc/runs/<n>/owner|sweeping-<r>|swept-<r>|condemned-<s>|end  docs/GARBAGE-COLLECTION.md
 *     gc/rescues/<g>/<id>
 *     referrers-complete                                          every manifest of the bucket has its referrer link
 *     repositories/<name>/_referrers/complete                     the same for one repository
 *     repositories/<name>/_referrers/links/<alg>/<hex>/<alg>/<hex>   subject, referrer; body: the descriptor
 *     uploads/<id>/session                                        JSON, see uploads.ts
 *     uploads/<id>/data/<offset>                                  segments
 */
import { algorithmOf, hexOf, tryParseDigest, type Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/names.ts'

const v2 = 'docker/registry/v2/'
const gc = 'stowage/gc/'

export const roots = { distribution: v2, stowage: 'stowage/' } as const

export const repositoriesFolder = `${v2}repositories/`
export const claimKey = `${gc}claim`
export const runsFolder = `${gc}runs/`
export const rescuesFolder = `${gc}rescues/`
export const uploadsFolder = 'stowage/uploads/'
export const referrersCompleteKey = 'stowage/referrers-complete'

const path = (digest: Digest) => `${algorithmOf(digest)}/${hexOf(digest)}`

export function blobKey(digest: Digest): string {
  return `${v2}blobs/${algorithmOf(digest)}/${hexOf(digest).slice(0, 2)}/${hexOf(digest)}/data`
}

export function layerLinkKey(name: RepositoryName, digest: Digest): string {
  return `${repositoriesFolder}${name}/_layers/${path(digest)}/link`
}

export function manifestsFolder(name: RepositoryName): string {
  return `${repositoriesFolder}${name}/_manifests/`
}

export function layersFolder(name: RepositoryName): string {
  return `${repositoriesFolder}${name}/_layers/`
}

export function revisionsFolder(name: RepositoryName): string {
  return `${manifestsFolder(name)}revisions/`
}

export function revisionLinkKey(name: RepositoryName, digest: Digest): string {
  return `${revisionsFolder(name)}${path(digest)}/link`
}

/** The digest of a key that revisionLinkKey made. */
export function digestOfRevisionLink(name: RepositoryName, key: string): Digest | undefined {
  const [algorithm, hex, link, ...rest] = key.slice(revisionsFolder(name).length).split('/')
  return link === 'link' && rest.length === 0 ? tryParseDigest(`${algorithm}:${hex}`) : undefined
}

export function tagsFolder(name: RepositoryName): string {
  return `${manifestsFolder(name)}tags/`
}

export function tagFolder(name: RepositoryName, tag: Tag): string {
  return `${tagsFolder(name)}${tag}/`
}

export function tagLinkKey(name: RepositoryName, tag: Tag): string {
  return `${tagFolder(name, tag)}current/link`
}

export function tagHistoryKey(name: RepositoryName, tag: Tag, digest: Digest): string {
  return `${tagFolder(name, tag)}index/${path(digest)}/link`
}

function referrersFolder(name: RepositoryName): string {
  return `stowage/repositories/${name}/_referrers/`
}

export function repositoryReferrersCompleteKey(name: RepositoryName): string {
  return `${referrersFolder(name)}complete`
}

export function referrerLinksFolder(name: RepositoryName, subject: Digest): string {
  return `${referrersFolder(name)}links/${path(subject)}/`
}

export function referrerLinkKey(name: RepositoryName, subject: Digest, referrer: Digest): string {
  return `${referrerLinksFolder(name, subject)}${path(referrer)}`
}

/** The digest of a name below referrerLinksFolder. */
export function digestOfReferrerLink(name: RepositoryName, subject: Digest, key: string): Digest | undefined {
  return tryParseDigest(key.slice(referrerLinksFolder(name, subject).length).replace('/', ':'))
}

export function sessionFolder(id: string): string {
  return `${uploadsFolder}${id}/`
}

export function sessionKey(id: string): string {
  return `${sessionFolder(id)}session`
}

export function segmentsPrefix(id: string): string {
  return `${sessionFolder(id)}data/`
}

/** Runs and generations are numbered from 1; keys sort as the numbers do. */
export function padRun(run: number): string {
  return String(run).padStart(10, '0')
}

export function runFolder(run: number): string {
  return `${runsFolder}${padRun(run)}/`
}

export function runRecordKey(
  run: number,
  record: 'owner' | 'end' | `condemned-${string}` | `sweeping-${string}` | `swept-${string}`,
): string {
  return `${runFolder(run)}${record}`
}

export function rescueKey(generation: number, id: string): string {
  return `${rescuesFolder}${padRun(generation)}/${id}`
}

/** A round of deletes, by either of its two records. */
export interface RoundRecord {
  /** `<n>-<r>`: what its removals are known by to the storage. */
  readonly round: string
  readonly record: 'sweeping' | 'swept'
}

export function parseRoundKey(key: string): RoundRecord | undefined {
  const match = /^([0-9]+)\/(sweeping|swept)-([0-9]+)$/.exec(key.slice(runsFolder.length))
  if (!match) return undefined
  return { round: `${match[1]}-${match[3]}`, record: match[2] === 'swept' ? 'swept' : 'sweeping' }
}
