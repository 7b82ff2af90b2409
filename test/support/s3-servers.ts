/** Real S3 servers for tests, each with a folder of its own that goes with it. */
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort, start, type Running } from './processes.ts'
import { tool } from './tools.ts'

export interface S3Server {
  readonly name: 'minio' | 'versitygw'
  readonly endpoint: string
  readonly region: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  createBucket(name: string): Promise<void>
  stop(): Promise<void>
}

const region = 'eu-test-1'
const accessKeyId = 'stowage-test'
const secretAccessKey = 'stowage-test-secret'

export async function startMinio(): Promise<S3Server> {
  return startServer('minio', async (folder, port) => {
    const env = {
      MINIO_CI_CD: '1',
      MINIO_BROWSER: 'off',
      MINIO_ROOT_USER: accessKeyId,
      MINIO_ROOT_PASSWORD: secretAccessKey,
      MINIO_SITE_REGION: region,
    }
    const args = ['server', '--quiet', '--address', `127.0.0.1:${port}`, folder]
    return start(await tool('minio'), args, { env, ready: `http://127.0.0.1:${port}/minio/health/ready` })
  })
}

export async function startVersitygw(): Promise<S3Server> {
  return startServer('versitygw', async (folder, port) => {
    const args = ['--access', accessKeyId, '--secret', secretAccessKey, '--region', region]
    const store = join(folder, 'store')
    await mkdir(store)
    return start(await tool('versitygw'), [...args, '--port', `127.0.0.1:${port}`, 'posix', store], {
      ready: `http://127.0.0.1:${port}/`,
    })
  })
}

async function startServer(
  name: S3Server['name'],
  launch: (folder: string, port: number) => Promise<Running>,
): Promise<S3Server> {
  const folder = await mkdtemp(join(tmpdir(), `stowage-${name}-`))
  const port = await freePort()
  let running: Running
  try {
    running = await launch(folder, port)
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw error
  }
  const endpoint = `http://127.0.0.1:${port}`
  const client = new S3Client({
    endpoint,
    region,
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
  })
  return {
    name,
    endpoint,
    region,
    accessKeyId,
    secretAccessKey,
    async createBucket(bucket) {
      await client.send(new CreateBucketCommand({ Bucket: bucket }))
    },
    async stop() {
      client.destroy()
      await running.stop()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** For a process that finds the credentials as a server would: in its environment. */
export function credentialsEnv({ accessKeyId, secretAccessKey }: S3Server) {
  return { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey }
}
