/**
 * Signatures with a date of our choosing. An ordinary request is signed by the SDK with this machine's clock (which it
 * sets right by the storage's answers). A request with a lease is signed with the lease's date, so that the storage
 * itself refuses it once the lease is over, however late it arrives:
 * - in its headers: refused 15 minutes after its date, a duration that S3 fixes;
 * - in its query ("presigned"): refused after as many seconds as the query says.
 */
import type { $Command, S3Client, S3ClientResolvedConfig } from '@aws-sdk/client-s3'
import type { ServiceInputTypes, ServiceOutputTypes } from '@aws-sdk/client-s3'
import type { Clock } from '../clock.ts'
import type { RemoveLease } from './driver.ts'

export type S3Command<I extends ServiceInputTypes, O extends ServiceOutputTypes> = $Command<
  I,
  O,
  S3ClientResolvedConfig,
  ServiceInputTypes,
  ServiceOutputTypes
>

type Signer = Awaited<ReturnType<S3ClientResolvedConfig['signer']>>
export type HttpRequest = Parameters<Signer['sign']>[0]

interface Presigner {
  presign(
    request: HttpRequest,
    options: {
      readonly expiresIn: number
      readonly signingDate: Date
      readonly unhoistableHeaders: Set<string>
    },
  ): Promise<HttpRequest>
}

/** How long a signature in the headers lives, by the storage's clock. */
export const headerSignatureMs = 15 * 60_000

/** Makes the SDK sign this command, with all its attempts, by its lease. */
export function signWithLease<I extends ServiceInputTypes, O extends ServiceOutputTypes>(
  client: S3Client,
  command: S3Command<I, O>,
  lease: RemoveLease,
  how: 'headers' | 'query',
): void {
  replaceSigning(command, async (request) => {
    const signingDate = new Date(lease.date)
    if (how === 'headers') return (await client.config.signer()).sign(request, { signingDate })
    return presignRequest(client, request, signingDate, Math.max(1, Math.floor(lease.durationMs / 1000)))
  })
}

/**
 * A URL with which the command can be carried out by whoever has it, for `seconds` or as long as the credentials
 * live, whichever is shorter.
 */
export async function presignCommand<I extends ServiceInputTypes, O extends ServiceOutputTypes>(
  client: S3Client,
  command: S3Command<I, O>,
  seconds: number,
  clock: Clock,
): Promise<{ readonly url: string; readonly seconds: number }> {
  let unsigned: HttpRequest | undefined
  replaceSigning(command, (request) => {
    unsigned = request
    throw new NotSent()
  })
  await client.send(command).catch((error: unknown) => {
    if (!(error instanceof NotSent)) throw error
  })
  if (!unsigned) throw new Error('the request was not built')
  const now = clock.now() + client.config.systemClockOffset
  const { expiration } = await client.config.credentials()
  const lifeSeconds = expiration ? Math.floor((expiration.getTime() - now) / 1000) : Infinity
  const livesFor = Math.max(1, Math.min(seconds, lifeSeconds))
  unsigned.headers = { host: unsigned.headers['host'] ?? '' }
  return {
    url: urlOf(await presignRequest(client, unsigned, new Date(now), livesFor)),
    seconds: livesFor,
  }
}

class NotSent extends Error {}

/** The name and the place of the SDK's own signing step, which this one replaces. */
const signingStep = {
  name: 'httpSigningMiddleware',
  relation: 'after',
  toMiddleware: 'retryMiddleware',
  override: true,
} as const

function replaceSigning<I extends ServiceInputTypes, O extends ServiceOutputTypes>(
  command: S3Command<I, O>,
  sign: (request: HttpRequest) => Promise<HttpRequest>,
): void {
  command.middlewareStack.addRelativeTo(
    <A extends { request: unknown }, R>(next: (args: A) => Promise<R>) =>
      async (args: A): Promise<R> => {
        if (!isHttpRequest(args.request)) throw new Error('not an HTTP request')
        return next({ ...args, request: await sign(args.request) })
      },
    signingStep,
  )
}

async function presignRequest(
  client: S3Client,
  request: HttpRequest,
  signingDate: Date,
  expiresIn: number,
): Promise<HttpRequest> {
  const signer = await client.config.signer()
  if (!isPresigner(signer)) throw new Error('the signer of the SDK cannot presign')
  // The payload's hash has no place in a presigned request; x-amz-checksum-sha256 lets the storage check the bytes.
  request.headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD'
  const kept = Object.keys(request.headers).filter((name) => name !== 'x-amz-content-sha256')
  return signer.presign(request, { expiresIn, signingDate, unhoistableHeaders: new Set(kept) })
}

function urlOf({ protocol, hostname, port, path, query }: HttpRequest): string {
  const pairs = Object.entries(query ?? {}).flatMap(([name, value]) =>
    [value ?? ''].flat().map((each) => `${escape(name)}=${escape(each)}`),
  )
  return `${protocol}//${hostname}${port === undefined ? '' : `:${port}`}${path}?${pairs.join('&')}`
}

const escape = (text: string) =>
  encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )

const isPresigner = (signer: object): signer is Presigner => 'presign' in signer

function isHttpRequest(value: unknown): value is HttpRequest {
  return typeof value === 'object' && value !== null && 'headers' in value && 'hostname' in value
}
