/** CNCF distribution, the registry whose layout we keep: version 3, and Debian's 2.8. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort, runOk, start, type Running } from './processes.ts'
import type { S3Server } from './s3-servers.ts'
import { tool } from './tools.ts'

export const distributionVersions = ['3', '2.8'] as const
export type DistributionVersion = (typeof distributionVersions)[number]

/** Where a registry keeps its images: a folder, or a bucket, possibly below a path of it. */
export type SharedStorage =
  { readonly root: string } | { readonly s3: S3Server; readonly bucket: string; readonly prefix?: string }

export interface Distribution extends Running {
  /** host:port */
  readonly registry: string
}

/** Deletes are enabled and nothing is cached: what another process changes in the storage is seen at once. */
export async function startDistribution(
  version: DistributionVersion,
  storage: SharedStorage,
): Promise<Distribution> {
  const registry = `127.0.0.1:${await freePort()}`
  const config = await writeConfig(storage, registry)
  try {
    const running = await start(await binaryOf(version), ['serve', config.file], {
      env: ownEnv,
      ready: `http://${registry}/v2/`,
    })
    const stop: Running['stop'] = async (graceMs) => {
      const exit = await running.stop(graceMs)
      await config.remove()
      return exit
    }
    return { ...running, registry, stop }
  } catch (error) {
    await config.remove()
    throw error
  }
}

/** What its own collection would delete, were it not a dry run. */
export interface Collectable {
  readonly blobs: readonly string[]
  /** `<repository>@<digest>` of links to layers; version 3 alone names them. */
  readonly layerLinks: readonly string[]
}

export async function findCollectable(
  version: DistributionVersion,
  storage: SharedStorage,
): Promise<Collectable> {
  const config = await writeConfig(storage, '127.0.0.1:0')
  try {
    const args = ['garbage-collect', '--dry-run', config.file]
    const output = await runOk(await binaryOf(version), args, { env: ownEnv })
    const blobs = [...output.matchAll(/^blob eligible for deletion: (\S+)$/gm)]
    const links = [...output.matchAll(/^(\S+): layer link eligible for deletion: (\S+)$/gm)]
    return {
      blobs: blobs.map(([, digest]) => digest ?? '').toSorted(),
      layerLinks: links.map(([, name, digest]) => `${name}@${digest}`).toSorted(),
    }
  } finally {
    await config.remove()
  }
}

/** Version 3 would send traces to a collector; 2.8 cannot start with a bundle of certificates for AWS. */
const ownEnv = { OTEL_TRACES_EXPORTER: 'none', AWS_CA_BUNDLE: undefined }

async function binaryOf(version: DistributionVersion): Promise<string> {
  return version === '3' ? tool('registry') : '/usr/bin/docker-registry'
}

async function writeConfig(storage: SharedStorage, address: string) {
  const folder = await mkdtemp(join(tmpdir(), 'stowage-distribution-'))
  const file = join(folder, 'config.yml')
  const config = {
    version: '0.1',
    log: { level: 'warn', accesslog: { disabled: true } },
    storage: {
      ...driverConfig(storage),
      delete: { enabled: true },
      redirect: { disable: true },
      maintenance: { uploadpurging: { enabled: false } },
    },
    http: { addr: address, secret: 'of-a-test' },
  }
  // JSON is YAML.
  await writeFile(file, JSON.stringify(config))
  return { file, remove: () => rm(folder, { recursive: true, force: true }) }
}

function driverConfig(storage: SharedStorage) {
  if ('root' in storage) return { filesystem: { rootdirectory: storage.root } }
  const { s3, bucket, prefix } = storage
  return {
    s3: {
      accesskey: s3.accessKeyId,
      secretkey: s3.secretAccessKey,
      region: s3.region,
      regionendpoint: s3.endpoint,
      forcepathstyle: true,
      secure: false,
      bucket,
      // The least that S3 takes, so that a test's blob has several parts.
      chunksize: 5 * 2 ** 20,
      ...(prefix !== undefined && { rootdirectory: `/${prefix}` }),
    },
  }
}
