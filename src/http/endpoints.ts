import type { Action } from '../auth/access.ts'
import { listReferrers, listRepositories, listTags } from './discover.ts'
import type { Exchange } from './exchange.ts'
import { getSupport, pullBlob, pullManifest, statBlob } from './pull.ts'
import { cancelUpload, finishUpload, getUpload, startUpload, uploadChunk } from './push-blob.ts'
import { pushManifest } from './push-manifest.ts'
import { removeBlob, removeManifest } from './remove.ts'

export interface Endpoint {
  /** The number in the specification's table "Endpoints". */
  readonly id: string
  readonly method: 'get' | 'head' | 'post' | 'patch' | 'put' | 'delete'
  /** Captures the repository and what the path ends in. `.+` does not backtrack here; the name is parsed later. */
  readonly path: RegExp
  /** What the caller must be allowed to do, in the repository where the path names one. */
  readonly action: Action
  readonly handle: (exchange: Exchange) => void | Promise<void>
}

const paths = {
  support: /^\/v2\/?$/,
  catalog: /^\/v2\/_catalog$/,
  blob: /^\/v2\/(.+)\/blobs\/([^/]+)$/,
  uploads: /^\/v2\/(.+)\/blobs\/uploads\/?$/,
  upload: /^\/v2\/(.+)\/blobs\/uploads\/([^/]+)$/,
  manifest: /^\/v2\/(.+)\/manifests\/([^/]+)$/,
  tags: /^\/v2\/(.+)\/tags\/list$/,
  referrers: /^\/v2\/(.+)\/referrers\/([^/]+)$/,
} as const

/** The specification's table, the whole of it, and Docker's catalog. */
export const endpoints: readonly Endpoint[] = [
  { id: 'end-1', method: 'get', action: 'login', path: paths.support, handle: getSupport },
  { id: 'end-3', method: 'head', action: 'pull', path: paths.manifest, handle: pullManifest },
  { id: 'end-3', method: 'get', action: 'pull', path: paths.manifest, handle: pullManifest },
  { id: 'end-13', method: 'get', action: 'push', path: paths.upload, handle: getUpload },
  { id: 'end-2', method: 'head', action: 'pull', path: paths.blob, handle: statBlob },
  { id: 'end-2', method: 'get', action: 'pull', path: paths.blob, handle: pullBlob },
  { id: 'end-4, end-11', method: 'post', action: 'push', path: paths.uploads, handle: startUpload },
  { id: 'end-5', method: 'patch', action: 'push', path: paths.upload, handle: uploadChunk },
  { id: 'end-6', method: 'put', action: 'push', path: paths.upload, handle: finishUpload },
  { id: 'end-7', method: 'put', action: 'push', path: paths.manifest, handle: pushManifest },
  { id: 'end-8', method: 'get', action: 'pull', path: paths.tags, handle: listTags },
  { id: 'end-9', method: 'delete', action: 'delete', path: paths.manifest, handle: removeManifest },
  { id: 'end-10', method: 'delete', action: 'delete', path: paths.blob, handle: removeBlob },
  { id: 'end-12', method: 'get', action: 'pull', path: paths.referrers, handle: listReferrers },
  { id: 'end-14', method: 'delete', action: 'push', path: paths.upload, handle: cancelUpload },
  { id: 'catalog', method: 'get', action: 'catalog', path: paths.catalog, handle: listRepositories },
]
