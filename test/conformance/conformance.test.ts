import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAuthority, writeCertificate } from '../support/certificates.ts'
import { htpasswdOf } from '../support/htpasswd.ts'
import { startMinio } from '../support/s3-servers.ts'
import { startStowage } from '../support/stowage.ts'
import { runConformance, type ConformanceOptions } from './suite.ts'

/** The suite had about 1,040 cases when this was written: far fewer means that it was not run as a whole. */
const fewestCases = 1_000

/**
 * Runs the suite against a server on this storage, and holds it to: everything passed, nothing left out. Everything
 * includes images without their layers, which the server takes only where it is told to.
 */
async function expectConformance(
  storage: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  options: ConformanceOptions = {},
): Promise<void> {
  const server = await startStowage(['--storage', storage, '--accept-sparse-images', ...args], env)
  try {
    const { failures, ...counts } = await runConformance(server.registry, options)
    const { passed, failed, skipped, disabled } = counts
    console.log(
      `conformance on ${storage}: ${passed} passed, ${failed} failed, ${skipped} skipped, ${disabled} disabled`,
    )
    if (failed > 0)
      console.log(`${failures.join('\n')}\n\nthe server wrote:\n${server.output().slice(-16_384)}`)
    expect(counts).toEqual({ passed: expect.any(Number), failed: 0, skipped: 0, disabled: 0 })
    expect(passed).toBeGreaterThanOrEqual(fewestCases)
  } finally {
    await server.stop()
  }
}

test('the server conforms to the specification on memory', async () => {
  await expectConformance('memory', [])
}, 300_000)

describe('over TLS, for people who log in', () => {
  let folder = ''
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'stowage-conformance-tls-'))
  })
  afterAll(() => rm(folder, { recursive: true, force: true }))

  test('the server conforms to the specification over TLS with Basic authentication', async () => {
    const authority = await createAuthority()
    const tls = await writeCertificate(folder, 'tls', await authority.issue(['127.0.0.1']))
    const caFile = join(folder, 'ca.crt')
    await writeFile(caFile, authority.certificate)
    const login = { user: 'alice', password: 'of wonderland' }
    const htpasswd = join(folder, 'htpasswd')
    await writeFile(htpasswd, htpasswdOf({ [login.user]: login.password }))
    const args = [`--tls-cert=${tls.certificate}`, `--tls-key=${tls.key}`, `--htpasswd=${htpasswd}`]
    await expectConformance('memory', args, {}, { caFile, login })
  }, 300_000)
})

test('by default an image without its layers is refused, and all else conforms', async () => {
  const server = await startStowage(['--storage', 'memory'])
  try {
    const { failures, skipped, disabled } = await runConformance(server.registry)
    // The image that lacks a layer, and what would be read of it; the index that lacks an image passes.
    expect(failures.filter((failure) => !failure.startsWith('OCI Conformance Test/sparse/'))).toEqual([])
    expect(failures.find((failure) => failure.includes('/sparse/push/manifest-by-digest'))).toContain('404')
    expect({ failed: failures.length, skipped, disabled }).toEqual({ failed: 7, skipped: 0, disabled: 0 })
  } finally {
    await server.stop()
  }
}, 300_000)

describe('on a file system', () => {
  let root = ''
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'stowage-conformance-root-'))
  })
  afterAll(() => rm(root, { recursive: true, force: true }))

  test('the server conforms to the specification on a file system', async () => {
    await expectConformance('filesystem', ['--root', root])
  }, 300_000)
})

describe('on S3', () => {
  let minio: Awaited<ReturnType<typeof startMinio>>
  beforeAll(async () => {
    minio = await startMinio()
    await minio.createBucket('conformance')
  }, 60_000)
  afterAll(() => minio.stop())

  test('the server conforms to the specification on S3', async () => {
    const { endpoint, region, accessKeyId, secretAccessKey } = minio
    const args = ['--s3-bucket', 'conformance', '--s3-endpoint', endpoint, '--s3-region', region]
    const credentials = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey }
    await expectConformance('s3', [...args, '--s3-path-style'], credentials)
  }, 600_000)
})
