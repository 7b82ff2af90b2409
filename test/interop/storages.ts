/** Storages that two registries share, and our server on one of them. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { referrersCompleteKey, roots } from '../../src/registry/layout.ts'
import type { Driver } from '../../src/storage/driver.ts'
import { filesystemDriver } from '../../src/storage/filesystem.ts'
import { s3Driver } from '../../src/storage/s3.ts'
import type { SharedStorage } from '../support/distribution.ts'
import { credentialsEnv, startMinio, type S3Server } from '../support/s3-servers.ts'
import { registryClient, type RegistryClient } from '../support/image-transfer.ts'
import { startStowage, type Stowage } from '../support/stowage.ts'

export const storageKinds = ['a directory', 'a bucket', 'a bucket below a prefix'] as const
export type StorageKind = (typeof storageKinds)[number]

export interface Storages {
  /** An empty one. */
  create(kind: StorageKind): Promise<SharedStorage>
  /** Ends and removes all of them. */
  remove(): Promise<void>
}

export function createStorages(): Storages {
  const folders: string[] = []
  let buckets = 0
  let minio: Promise<S3Server> | undefined
  return {
    async create(kind) {
      if (kind === 'a directory') {
        const root = await mkdtemp(join(tmpdir(), 'stowage-interop-'))
        folders.push(root)
        return { root }
      }
      const s3 = await (minio ??= startMinio())
      const bucket = `interop-${++buckets}`
      await s3.createBucket(bucket)
      return { s3, bucket, ...(kind === 'a bucket below a prefix' && { prefix: 'team/registry' }) }
    },

    async remove() {
      await (await minio)?.stop()
      for (const folder of folders) await rm(folder, { recursive: true, force: true })
    },
  }
}

/** Our marks that every manifest has its referrer link: without them we look again. No server runs meanwhile. */
export async function removeReferrerMarks(storage: SharedStorage): Promise<void> {
  const driver = await openDriver(storage)
  try {
    const marks = [referrersCompleteKey]
    for await (const { key } of driver.list(`${roots.stowage}repositories/`)) {
      if (key.endsWith('/_referrers/complete')) marks.push(key)
    }
    await driver.remove(marks)
  } finally {
    await driver.close?.()
  }
}

async function openDriver(storage: SharedStorage): Promise<Driver> {
  if ('root' in storage) return filesystemDriver({ root: storage.root })
  const { s3, bucket, prefix = '' } = storage
  Object.assign(process.env, credentialsEnv(s3))
  return s3Driver({ bucket, prefix, region: s3.region, endpoint: s3.endpoint, pathStyle: true })
}

export async function startStowageOn(storage: SharedStorage): Promise<Stowage> {
  if ('root' in storage) return startStowage(['--storage', 'filesystem', '--root', storage.root])
  const { s3, bucket, prefix } = storage
  const args = ['--storage', 's3', '--s3-bucket', bucket, '--s3-endpoint', s3.endpoint, '--s3-path-style']
  const place = prefix === undefined ? [] : ['--s3-prefix', prefix]
  return startStowage([...args, '--s3-region', s3.region, ...place], credentialsEnv(s3))
}

/** A server for as long as a block lasts. */
export async function serving(
  starting: Promise<{ readonly registry: string; stop(): Promise<unknown> }>,
): Promise<AsyncDisposable & { client: RegistryClient }> {
  const server = await starting
  return {
    client: registryClient(server.registry),
    [Symbol.asyncDispose]: async () => void (await server.stop()),
  }
}
