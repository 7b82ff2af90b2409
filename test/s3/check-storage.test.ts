/** `stowage check-storage` on a real S3 server, and on one that is made to lie. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import {
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutBucketLifecycleConfigurationCommand,
  PutBucketVersioningCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import { fileURLToPath } from 'node:url'
import { adviseOnBucket } from '../../src/storage/s3/advice.ts'
import { startFaultyProxy, type FaultyProxy, type ProxiedRequest } from '../support/faulty-proxy.ts'
import { run, start } from '../support/processes.ts'
import { credentialsEnv, startMinio, type S3Server } from '../support/s3-servers.ts'
import { withoutSettings } from '../support/stowage.ts'

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const timeoutMs = 120_000

interface Findings {
  readonly ok: boolean
  readonly cases: readonly { readonly name: string; readonly ok: boolean; readonly problem?: string }[]
  readonly meanings: readonly string[]
  readonly advice: readonly string[]
}

let server: S3Server
let proxy: FaultyProxy
let client: S3Client
let bucket: string
let buckets = 0

beforeAll(async () => {
  server = await startMinio()
  proxy = await startFaultyProxy(server)
  const { endpoint, region, accessKeyId, secretAccessKey } = server
  client = new S3Client({
    endpoint,
    region,
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
  })
}, timeoutMs)

afterAll(async () => {
  client.destroy()
  await proxy.stop()
  await server.stop()
})

beforeEach(async () => {
  bucket = `check-${++buckets}`
  proxy.behave()
  await server.createBucket(bucket)
})

function argsFor(endpoint: string, more: readonly string[] = []): string[] {
  const place = ['--s3-bucket', bucket, '--s3-endpoint', endpoint, '--s3-region', server.region]
  return [main, 'check-storage', '--storage', 's3', ...place, '--s3-path-style', ...more]
}

function environment(): Record<string, string | undefined> {
  return { ...withoutSettings, ...credentialsEnv(server) }
}

async function check(endpoint: string, more: readonly string[] = []) {
  const args = argsFor(endpoint, ['--output', 'json', ...more])
  const { code, stdout, stderr } = await run(process.execPath, args, { env: environment(), timeoutMs })
  if (stdout.length === 0) return { code, stderr }
  return { code, stderr, findings: JSON.parse(stdout.toString()) as Findings }
}

async function expectNothingLeft(): Promise<void> {
  const objects = await client.send(new ListObjectsV2Command({ Bucket: bucket }))
  expect(objects.Contents ?? []).toEqual([])
  // Without a key MinIO may still name an upload that has just ended; asked for that very key it does not.
  const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }))
  for (const { Key = '' } of Uploads) {
    const uploads = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: Key }))
    expect((uploads.Uploads ?? []).filter((upload) => upload.Key === Key)).toEqual([])
  }
}

describe('check-storage', () => {
  test(
    'a server that keeps its promises passes below the prefix that was given, and nothing is left',
    async () => {
      const { code, stderr, findings } = await check(server.endpoint, ['--s3-prefix', 'team/registry'])
      expect(stderr).toBe('')
      expect(findings?.cases.filter(({ ok }) => !ok)).toEqual([])
      expect(findings?.cases.length).toBeGreaterThan(50)
      expect(findings?.meanings).toEqual([])
      expect(code).toBe(0)
      await expectNothingLeft()
    },
    timeoutMs,
  )

  test(
    'a server that ignores create-if-absent is told apart, and what it means',
    async () => {
      proxy.misbehave({ does: { ignoreCondition: true } })
      const { code, findings } = await check(proxy.endpoint)
      expect(code).toBe(1)
      expect(findings?.ok).toBe(false)
      const problems = findings?.cases.flatMap(({ problem }) => problem ?? []).join('\n')
      expect(problems).toContain('create-if-absent is not honoured')
      expect(findings?.meanings.join('\n')).toContain('no collection')
      await expectNothingLeft()
    },
    timeoutMs,
  )

  test(
    'a signal ends it after the case that runs, and nothing is left',
    async () => {
      const running = await start(process.execPath, argsFor(server.endpoint), {
        env: environment(),
        ready: /^ok .*\n(.*\n){20}/m,
      })
      running.kill('SIGINT')
      expect(await running.exited).toEqual({ code: 1, signal: null })
      expect(running.output()).toMatch(/\d+ of \d+ hold; stopped before the end\n$/)
      await expectNothingLeft()
    },
    timeoutMs,
  )

  test('a bucket that is not there, and keys that are wrong, are a sentence each', async () => {
    bucket = 'nowhere'
    const missing = await check(server.endpoint)
    expect(missing).toMatchObject({ code: 1 })
    expect(missing.stderr).toMatch(
      /^stowage check-storage: the storage s3 nowhere at .* cannot be used: .*NoSuchBucket.*\n$/,
    )
    const { stderr, code } = await run(process.execPath, argsFor(server.endpoint), {
      env: { ...environment(), AWS_SECRET_ACCESS_KEY: 'another' },
    })
    expect(code).toBe(1)
    expect(stderr).toMatch(/^stowage check-storage: .* cannot be used: .*SignatureDoesNotMatch.*\n$/)
  })
})

describe('advice on a bucket', () => {
  const advise = async (endpoint: string) => {
    Object.assign(process.env, credentialsEnv(server))
    return adviseOnBucket({ bucket, endpoint, region: server.region, pathStyle: true })
  }

  test('a rule that deletes by age is told by its name', async () => {
    const rule = {
      ID: 'old things',
      Status: 'Enabled' as const,
      Filter: { Prefix: '' },
      Expiration: { Days: 30 },
    }
    const rules = { Bucket: bucket, LifecycleConfiguration: { Rules: [rule] } }
    await client.send(new PutBucketLifecycleConfigurationCommand(rules))
    expect(await advise(server.endpoint)).toEqual([
      expect.stringContaining('No lifecycle rule aborts unfinished multipart uploads'),
      expect.stringContaining('The lifecycle rule "old things" deletes objects by their age'),
    ])
  })

  test('versions that no rule ends are told', async () => {
    const versioning = { Bucket: bucket, VersioningConfiguration: { Status: 'Enabled' as const } }
    await client.send(new PutBucketVersioningCommand(versioning))
    expect(await advise(server.endpoint)).toContainEqual(expect.stringContaining('The bucket keeps versions'))
  })

  test('what may not be looked up is left to the user, with the right that is missing', async () => {
    const isAboutBucket = ({ query }: ProxiedRequest) => query.has('lifecycle') || query.has('versioning')
    proxy.misbehave({ matches: isAboutBucket, does: { answer: { status: 403, code: 'AccessDenied' } } })
    expect(await advise(proxy.endpoint)).toEqual([
      expect.stringMatching(/lifecycle rules .* \(AccessDenied.*allow s3:GetLifecycleConfiguration/),
      expect.stringMatching(/versioning .* \(AccessDenied.*allow s3:GetBucketVersioning/),
    ])
  })
})
