/**
 * Credentials without keys, as pods have them. The token endpoints are faked; what they hand out are temporary
 * credentials of the real S3 server behind.
 */
import { AssumeRoleCommand, STSClient } from '@aws-sdk/client-sts'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Driver } from '../../src/storage/driver.ts'
import { s3Driver } from '../../src/storage/s3.ts'
import { startMinio, type S3Server } from '../support/s3-servers.ts'

interface Credentials {
  readonly AccessKeyId: string
  readonly SecretAccessKey: string
  readonly SessionToken: string
}

let server: S3Server
let credentials: Credentials
let folder: string
let endpoint: TokenEndpoint
let driver: Driver | undefined
const environment = { ...process.env }

/** A token endpoint, and what it was asked. */
interface TokenEndpoint {
  readonly url: string
  readonly asked: { readonly headers: IncomingMessage['headers']; readonly body: string }[]
  /** How long the credentials that it hands out still live. */
  livesForMs: number
  stop(): Promise<void>
}

beforeAll(async () => {
  server = await startMinio()
  await server.createBucket('keyless')
  credentials = await temporaryCredentials(server)
  folder = await mkdtemp(join(tmpdir(), 'stowage-credentials-'))
  await writeFile(join(folder, 'token'), 'a token of the cluster')
}, 60_000)

beforeEach(() => {
  for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name]
  process.env['AWS_EC2_METADATA_DISABLED'] = 'true'
  process.env['AWS_CONFIG_FILE'] = join(folder, 'config')
  process.env['AWS_SHARED_CREDENTIALS_FILE'] = join(folder, 'credentials')
})

afterEach(async () => {
  await driver?.close?.()
  await endpoint?.stop()
})

afterAll(async () => {
  process.env = environment
  await rm(folder, { recursive: true, force: true })
  await server.stop()
})

async function temporaryCredentials({ endpoint, region, ...keys }: S3Server): Promise<Credentials> {
  const { accessKeyId, secretAccessKey } = keys
  const client = new STSClient({ endpoint, region, credentials: { accessKeyId, secretAccessKey } })
  const command = new AssumeRoleCommand({ RoleArn: 'arn:aws:iam::1:role/test', RoleSessionName: 'test' })
  const { Credentials } = await client.send(command)
  client.destroy()
  const { AccessKeyId = '', SecretAccessKey = '', SessionToken = '' } = Credentials ?? {}
  return { AccessKeyId, SecretAccessKey, SessionToken }
}

async function startTokenEndpoint(render: (lives: Date) => string): Promise<TokenEndpoint> {
  const asked: TokenEndpoint['asked'] = []
  const listener: Server = createServer((incoming, outgoing) => {
    void text(incoming).then((body) => {
      asked.push({ headers: incoming.headers, body })
      outgoing.end(render(new Date(Date.now() + started.livesForMs)))
    })
  }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const address = listener.address()
  if (address === null || typeof address === 'string') throw new Error('no port was given')
  const started: TokenEndpoint = {
    url: `http://127.0.0.1:${address.port}`,
    asked,
    livesForMs: 3_600_000,
    async stop() {
      listener.close()
      listener.closeAllConnections()
      await once(listener, 'close')
    },
  }
  return started
}

const containerAnswer = (lives: Date) =>
  JSON.stringify({
    AccessKeyId: credentials.AccessKeyId,
    SecretAccessKey: credentials.SecretAccessKey,
    Token: credentials.SessionToken,
    Expiration: lives.toISOString(),
  })

const stsAnswer = (
  lives: Date,
) => `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <Credentials>
      <AccessKeyId>${credentials.AccessKeyId}</AccessKeyId>
      <SecretAccessKey>${credentials.SecretAccessKey}</SecretAccessKey>
      <SessionToken>${credentials.SessionToken}</SessionToken>
      <Expiration>${lives.toISOString()}</Expiration>
    </Credentials>
    <AssumedRoleUser>
      <Arn>arn:aws:sts::1:assumed-role/stowage/pod</Arn><AssumedRoleId>ID:pod</AssumedRoleId>
    </AssumedRoleUser>
  </AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>`

function openDriver(): Driver {
  driver = s3Driver({ bucket: 'keyless', endpoint: server.endpoint, region: server.region, pathStyle: true })
  return driver
}

/** Every kind of signature: in the headers, with a lease, in the query, in a URL for a client. */
async function useEverySignature(driver: Driver): Promise<void> {
  await driver.write('a', Buffer.from('content'))
  const { date } = await driver.stat('a')
  for (const durationMs of [900_000, 60_000]) {
    await driver.write('a', Buffer.from('content'), { lease: { generation: 1, date, durationMs } })
  }
  expect((await driver.read('a'))?.toString()).toBe('content')
  const url = (await driver.presign?.('a', 'GET', 60)) ?? ''
  expect(await (await fetch(url)).text()).toBe('content')
  await driver.remove(['a'], { lease: { date, durationMs: 60_000 } })
  expect(await driver.read('a')).toBeUndefined()
}

describe('credentials without keys', () => {
  test('IAM roles for service accounts: a web identity token is exchanged at the token service', async () => {
    endpoint = await startTokenEndpoint(stsAnswer)
    Object.assign(process.env, {
      AWS_ROLE_ARN: 'arn:aws:iam::1:role/stowage',
      AWS_WEB_IDENTITY_TOKEN_FILE: join(folder, 'token'),
      AWS_ENDPOINT_URL_STS: endpoint.url,
      AWS_REGION: server.region,
    })
    await useEverySignature(openDriver())
    const form = new URLSearchParams(endpoint.asked[0]?.body)
    expect(form.get('Action')).toBe('AssumeRoleWithWebIdentity')
    expect(form.get('WebIdentityToken')).toBe('a token of the cluster')
    expect(form.get('RoleArn')).toBe('arn:aws:iam::1:role/stowage')
    expect(endpoint.asked.length).toBe(1)
  })

  test('EKS Pod Identity: the container endpoint is asked with the token of a file', async () => {
    endpoint = await startTokenEndpoint(containerAnswer)
    Object.assign(process.env, {
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `${endpoint.url}/v1/credentials`,
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: join(folder, 'token'),
    })
    await useEverySignature(openDriver())
    expect(endpoint.asked.map(({ headers }) => headers.authorization)).toEqual(['a token of the cluster'])
  })

  test('credentials that end soon are fetched anew, and no URL outlives them', async () => {
    endpoint = await startTokenEndpoint(containerAnswer)
    process.env['AWS_CONTAINER_CREDENTIALS_FULL_URI'] = `${endpoint.url}/v1/credentials`
    endpoint.livesForMs = 120_000
    const driver = openDriver()
    await driver.write('b', Buffer.from('content'))
    const url = new URL((await driver.presign?.('b', 'GET', 600)) ?? '')
    expect(Number(url.searchParams.get('X-Amz-Expires'))).toBeLessThanOrEqual(120)
    endpoint.livesForMs = -1
    await driver.stat('b')
    await driver.stat('b')
    expect(endpoint.asked.length).toBeGreaterThan(1)
  })

  test('none at all is said in words that help', async () => {
    endpoint = await startTokenEndpoint(containerAnswer)
    await expect(openDriver().stat('a')).rejects.toThrow(/AWS_ACCESS_KEY_ID.*Pod Identity/)
  })
})
