/** The protocol as a client speaks it, for tests: pushes what images.ts builds, and compares what a registry serves. */
import { expect } from '@jest/globals'
import { isDeepStrictEqual } from 'node:util'
import { mediaTypes } from '../../src/oci/media-types.ts'
import type { TestBlob, TestManifest } from './images.ts'

/** How a blob's bytes travel: see the forms in the specification, "Pushing blobs". */
export type BlobForm = 'post' | 'put' | 'stream' | 'chunks'

export interface RegistryClient {
  /** The bare request, below /v2/. */
  request(path: string, init?: RequestInit): Promise<Response>
  pushBlob(name: string, blob: TestBlob, form?: BlobForm): Promise<void>
  /** Whether it was mounted; a session that was opened instead is cancelled. */
  mountBlob(name: string, digest: string, from: string): Promise<boolean>
  /** All that is below it first. Without tags it goes by its digest. */
  push(name: string, manifest: TestManifest, options?: PushOptions): Promise<void>
  /** The manifest alone. */
  pushManifest(name: string, reference: string, manifest: TestManifest): Promise<void>
  deleteManifest(name: string, reference: string): Promise<void>
  deleteBlob(name: string, digest: string): Promise<void>
  /** Undefined where the repository is unknown. */
  listTags(name: string): Promise<string[] | undefined>
  listRepositories(): Promise<string[]>
  listReferrers(name: string, digest: string): Promise<unknown[]>
}

export interface PushOptions {
  readonly tags?: readonly string[]
  readonly form?: BlobForm
}

/** Where chunks are cut: not at any size that a registry or S3 would cut at. */
const chunkBytes = 5_000_011

/** All types at once: what is answered must not depend on what a client can read. */
export const acceptAll = Object.values(mediaTypes).join(', ')

/**
 * @param registry host:port, or a URL of those where it is not plain HTTP
 * @param fetchUrl what sends the requests: one that logs in, for example
 */
export function registryClient(
  registry: string,
  fetchUrl: (url: URL, init?: RequestInit) => Promise<Response> = fetch,
): RegistryClient {
  const base = `${registry.includes('://') ? registry : `http://${registry}`}/v2/`

  const request = (path: string, init: RequestInit = {}) => fetchUrl(new URL(path, base), init)

  const send = async (status: number, path: string | URL, init: RequestInit): Promise<Response> => {
    const response = await fetchUrl(new URL(path, base), init)
    const body = await response.text()
    if (response.status !== status) {
      const request = `${init.method} ${new URL(path, base).href}`
      throw new Error(`${request}: expected ${status}, got ${response.status}: ${body.slice(0, 1000)}`)
    }
    return response
  }
  const locationOf = (response: Response) => new URL(response.headers.get('Location') ?? '', response.url)
  const startUpload = async (name: string) =>
    locationOf(await send(202, `${name}/blobs/uploads/`, { method: 'POST' }))

  const putBlob = async (location: URL, digest: string, bytes: Buffer) => {
    location.searchParams.set('digest', digest)
    await send(201, location, { method: 'PUT', body: bodyOf(bytes), headers: octets })
  }
  const patch = async (location: URL, bytes: Buffer, headers: Record<string, string> = {}) =>
    locationOf(
      await send(202, location, { method: 'PATCH', body: bodyOf(bytes), headers: { ...octets, ...headers } }),
    )

  const pushers: Record<BlobForm, (name: string, blob: TestBlob) => Promise<void>> = {
    async post(name, { digest, bytes }) {
      const path = `${name}/blobs/uploads/?digest=${digest}`
      await send(201, path, { method: 'POST', body: bodyOf(bytes), headers: octets })
    },
    async put(name, { digest, bytes }) {
      await putBlob(await startUpload(name), digest, bytes)
    },
    async stream(name, { digest, bytes }) {
      const location = await patch(await startUpload(name), bytes)
      await putBlob(location, digest, Buffer.alloc(0))
    },
    async chunks(name, { digest, bytes }) {
      let location = await startUpload(name)
      for (let start = 0; start < bytes.length; start += chunkBytes) {
        const chunk = bytes.subarray(start, start + chunkBytes)
        const range = `${start}-${start + chunk.length - 1}`
        location = await patch(location, chunk, { 'Content-Range': range })
      }
      await putBlob(location, digest, Buffer.alloc(0))
    },
  }

  const client: RegistryClient = {
    request,

    async pushBlob(name, blob, form = 'put') {
      await pushers[form](name, blob)
    },

    async mountBlob(name, digest, from) {
      const path = `${name}/blobs/uploads/?mount=${digest}&from=${from}`
      const response = await request(path, { method: 'POST' })
      await response.arrayBuffer()
      if (response.status === 202) await send(204, locationOf(response), { method: 'DELETE' })
      return response.status === 201
    },

    async push(name, manifest, { tags = [], form } = {}) {
      await Promise.all([
        ...manifest.children.map((child) => client.push(name, child, form ? { form } : {})),
        ...manifest.blobs.map((blob) => client.pushBlob(name, blob, form)),
      ])
      const references = tags.length === 0 ? [manifest.digest] : tags
      await Promise.all(references.map((reference) => client.pushManifest(name, reference, manifest)))
    },

    async pushManifest(name, reference, { mediaType, bytes }) {
      const headers = { 'Content-Type': mediaType }
      await send(201, `${name}/manifests/${reference}`, { method: 'PUT', body: bodyOf(bytes), headers })
    },

    async deleteManifest(name, reference) {
      await send(202, `${name}/manifests/${reference}`, { method: 'DELETE' })
    },

    async deleteBlob(name, digest) {
      await send(202, `${name}/blobs/${digest}`, { method: 'DELETE' })
    },

    async listTags(name) {
      const response = await request(`${name}/tags/list`)
      const body = (await response.json()) as { name?: string; tags?: string[] | null }
      if (response.status === 404) return undefined
      expect({ status: response.status, name: body.name }).toEqual({ status: 200, name })
      return body.tags ?? []
    },

    async listRepositories() {
      const response = await request('_catalog?n=1000')
      expect(response.status).toBe(200)
      return ((await response.json()) as { repositories: string[] }).repositories
    },

    async listReferrers(name, digest) {
      const response = await request(`${name}/referrers/${digest}`)
      expect(response.status).toBe(200)
      expect(response.headers.get('Content-Type')).toBe(mediaTypes.imageIndex)
      return ((await response.json()) as { manifests: unknown[] }).manifests
    },
  }
  return client
}

const octets = { 'Content-Type': 'application/octet-stream' }

function bodyOf(bytes: Buffer): NonNullable<RequestInit['body']> {
  return new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length)
}

/** A manifest by its tag or digest, GET and HEAD: the bytes, the length, the digest and the type that it was pushed with. */
export async function expectManifest(
  client: RegistryClient,
  name: string,
  reference: string,
  manifest: TestManifest,
): Promise<void> {
  const path = `${name}/manifests/${reference}`
  const headers = { Accept: acceptAll }
  await expectServed(await client.request(path, { headers }), manifest, manifest.mediaType)
  const head = await client.request(path, { method: 'HEAD', headers })
  await expectServed(head, { ...manifest, bytes: Buffer.alloc(0) }, manifest.mediaType, manifest.bytes.length)
}

export async function expectBlob(client: RegistryClient, name: string, blob: TestBlob): Promise<void> {
  const response = await client.request(`${name}/blobs/${blob.digest}`)
  await expectServed(response, blob, 'application/octet-stream')
}

export async function expectNoManifest(
  client: RegistryClient,
  name: string,
  reference: string,
): Promise<void> {
  await expectMissing(client, `${name}/manifests/${reference}`)
}

export async function expectNoBlob(client: RegistryClient, name: string, digest: string): Promise<void> {
  await expectMissing(client, `${name}/blobs/${digest}`)
}

async function expectMissing(client: RegistryClient, path: string): Promise<void> {
  const response = await client.request(path, { headers: { Accept: acceptAll } })
  await response.arrayBuffer()
  expect({ path, status: response.status }).toEqual({ path, status: 404 })
}

/** Bytes are compared here and not by jest, which would print megabytes of them. */
async function expectServed(
  response: Response,
  { digest, bytes }: Pick<TestBlob, 'digest' | 'bytes'>,
  contentType: string,
  length = bytes.length,
): Promise<void> {
  const body = Buffer.from(await response.arrayBuffer())
  const seen = {
    url: response.url,
    status: response.status,
    contentType: response.headers.get('Content-Type'),
    digest: response.headers.get('Docker-Content-Digest'),
    length: Number(response.headers.get('Content-Length')),
    isSame: body.equals(bytes),
  }
  const expected = { url: response.url, status: 200, contentType, digest, length, isSame: true }
  const isAsExpected = isDeepStrictEqual(seen, expected)
  expect(isAsExpected ? seen : { ...seen, body: body.subarray(0, 500).toString() }).toEqual(expected)
}
