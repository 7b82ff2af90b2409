/** Registries that send clients to the bucket for blobs, all on one bucket of one MinIO. */
import { credentialsEnv, startMinio } from '../support/s3-servers.ts'
import { startStowage, type Stowage } from '../support/stowage.ts'

export interface RedirectingRegistries {
  /** Presigned URLs name the bucket's host. */
  readonly named: Stowage
  /** Presigned URLs have the address of the bucket's host. */
  readonly addressed: Stowage
  stop(): Promise<void>
}

export async function startRedirectingRegistries(): Promise<RedirectingRegistries> {
  const minio = await startMinio()
  await minio.createBucket('images')
  const storage = ['--storage', 's3', '--s3-bucket', 'images', '--s3-path-style', '--s3-redirect']
  const serve = (endpoint: string) =>
    startStowage([...storage, '--s3-endpoint', endpoint, '--s3-region', minio.region], credentialsEnv(minio))
  const named = await serve(minio.endpoint.replace('127.0.0.1', 'localhost'))
  const addressed = await serve(minio.endpoint)
  return {
    named,
    addressed,
    async stop() {
      await named.stop()
      await addressed.stop()
      await minio.stop()
    },
  }
}
