/** What a bucket is expected to hold, whichever registry serves it: a test's writes go to a server and to this record. */
import { expect } from '@jest/globals'
import pMap from 'p-map'
import type { TestBlob, TestManifest } from '../support/images.ts'
import {
  expectBlob,
  expectManifest,
  expectNoBlob,
  expectNoManifest,
  type PushOptions,
  type RegistryClient,
} from '../support/image-transfer.ts'

interface Repository {
  readonly manifests: Map<string, TestManifest>
  readonly blobs: Map<string, TestBlob>
  /** Tag to digest. */
  readonly tags: Map<string, string>
  /** References and blobs that were deleted, and not pushed again. */
  readonly gone: Set<string>
  readonly goneBlobs: Set<string>
  /** Tags whose manifest we deleted by its digest: they answer 404, but their folders stay. */
  readonly danglingTags: Set<string>
}

export interface Contents {
  push(client: RegistryClient, name: string, manifest: TestManifest, options?: PushOptions): Promise<void>
  pushBlob(client: RegistryClient, name: string, blob: TestBlob): Promise<void>
  mountBlob(client: RegistryClient, name: string, blob: TestBlob, from: string): Promise<void>
  /** The tag alone; its manifest stays. */
  deleteTag(client: RegistryClient, name: string, tag: string): Promise<void>
  /** The manifest, and with it its tags. `leavesFolders`: whether distribution will still list them. */
  deleteManifest(
    client: RegistryClient,
    name: string,
    manifest: TestManifest,
    leavesFolders: boolean,
  ): Promise<void>
  deleteBlob(client: RegistryClient, name: string, blob: TestBlob): Promise<void>
  /** Asks for everything, and for everything that was deleted. Returns how many answers were compared. */
  expectServedBy(server: 'distribution' | 'stowage', client: RegistryClient): Promise<number>
  /** The digests of all blobs that no manifest refers to, as distribution's collection counts them. */
  unreferencedBlobs(): string[]
}

export function emptyContents(): Contents {
  const repositories = new Map<string, Repository>()

  const repositoryOf = (name: string): Repository => {
    const found = repositories.get(name) ?? emptyRepository()
    repositories.set(name, found)
    return found
  }
  const addBlob = ({ blobs, goneBlobs }: Repository, blob: TestBlob) => {
    blobs.set(blob.digest, blob)
    goneBlobs.delete(blob.digest)
  }
  const addManifest = (repository: Repository, manifest: TestManifest) => {
    for (const child of manifest.children) addManifest(repository, child)
    for (const blob of manifest.blobs) addBlob(repository, blob)
    repository.manifests.set(manifest.digest, manifest)
    repository.gone.delete(manifest.digest)
  }

  return {
    async push(client, name, manifest, options = {}) {
      await client.push(name, manifest, options)
      const repository = repositoryOf(name)
      addManifest(repository, manifest)
      for (const tag of options.tags ?? []) {
        repository.tags.set(tag, manifest.digest)
        repository.gone.delete(tag)
        repository.danglingTags.delete(tag)
      }
    },

    async pushBlob(client, name, blob) {
      await client.pushBlob(name, blob)
      addBlob(repositoryOf(name), blob)
    },

    async mountBlob(client, name, blob, from) {
      expect(await client.mountBlob(name, blob.digest, from)).toBe(true)
      addBlob(repositoryOf(name), blob)
    },

    async deleteTag(client, name, tag) {
      await client.deleteManifest(name, tag)
      const { tags, gone } = repositoryOf(name)
      tags.delete(tag)
      gone.add(tag)
    },

    async deleteManifest(client, name, { digest }, leavesFolders) {
      await client.deleteManifest(name, digest)
      const { manifests, tags, gone, danglingTags } = repositoryOf(name)
      manifests.delete(digest)
      gone.add(digest)
      for (const [tag, target] of tags) {
        if (target !== digest) continue
        tags.delete(tag)
        gone.add(tag)
        if (leavesFolders) danglingTags.add(tag)
      }
    },

    async deleteBlob(client, name, { digest }) {
      await client.deleteBlob(name, digest)
      const { blobs, goneBlobs } = repositoryOf(name)
      blobs.delete(digest)
      goneBlobs.add(digest)
    },

    async expectServedBy(server, client) {
      const names = await client.listRepositories()
      const isOurs = server === 'stowage'
      expect(isOurs ? names : names.toSorted()).toEqual([...repositories.keys()].toSorted())
      let compared = 1
      for (const [name, { tags, danglingTags }] of repositories) {
        const listed = (await client.listTags(name)) ?? []
        // Distribution lists whatever has a folder, and in the order of its storage.
        const expected = isOurs ? [...tags.keys()] : [...tags.keys(), ...danglingTags]
        expect({ name, tags: isOurs ? listed : listed.toSorted() }).toEqual({
          name,
          tags: expected.toSorted(),
        })
      }
      for (const [name, repository] of repositories) {
        compared += await expectRepository(client, name, repository)
      }
      return compared
    },

    unreferencedBlobs() {
      const all = [...repositories.values()]
      const referenced = new Set(
        all.flatMap(({ manifests }) =>
          [...manifests.values()].flatMap((manifest) => manifest.blobs.map((blob) => blob.digest)),
        ),
      )
      const stored = all.flatMap(({ blobs, goneBlobs, manifests, gone }) => [
        ...blobs.keys(),
        ...goneBlobs,
        ...[...gone].filter((reference) => reference.includes(':')),
        ...manifests.keys(),
      ])
      const live = new Set([...referenced, ...all.flatMap(({ manifests }) => [...manifests.keys()])])
      return [...new Set(stored)].filter((digest) => !live.has(digest)).toSorted()
    },
  }
}

function emptyRepository(): Repository {
  return {
    manifests: new Map(),
    blobs: new Map(),
    tags: new Map(),
    gone: new Set(),
    goneBlobs: new Set(),
    danglingTags: new Set(),
  }
}

async function expectRepository(
  client: RegistryClient,
  name: string,
  { manifests, blobs, tags, gone, goneBlobs }: Repository,
): Promise<number> {
  const expectTag = async (tag: string, digest: string) => {
    const manifest = manifests.get(digest)
    if (!manifest) throw new Error(`the record of ${name}:${tag} points to nothing`)
    await expectManifest(client, name, tag, manifest)
  }
  const checks = [
    ...[...tags].map(
      ([tag, digest]) =>
        () =>
          expectTag(tag, digest),
    ),
    ...[...manifests].map(
      ([digest, manifest]) =>
        () =>
          expectManifest(client, name, digest, manifest),
    ),
    ...[...blobs.values()].map((blob) => () => expectBlob(client, name, blob)),
    ...[...gone].map((reference) => () => expectNoManifest(client, name, reference)),
    ...[...goneBlobs].map((digest) => () => expectNoBlob(client, name, digest)),
  ]
  await pMap(checks, (check) => check(), { concurrency: 8 })
  return checks.length
}
