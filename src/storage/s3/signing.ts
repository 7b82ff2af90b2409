/**
 * Signatures with a date of our choosing. An ordinary request is signed by the SDK with this machine's clock (which it
 * sets right by the storage's answers). A request with a lease is signed with the lease's date, so that the storage
 * itself refuses it once the lease is over, however late it arrives:
 * - in its headers: refused 15 minutes after its date, a duration that S3 fixes;
 * - in its query ("presigned"): refused after as many seconds as the query says.
 */
import type { $Command, S3Client, S3ClientResolvedConfig } from '@aws-sdk/client-s3'
import type { ServiceInputTypes, ServiceOutputTypes } from '@aws-sdk/client-s3'
import type { Clock } from '../../clock.ts'
import type { RemoveLease } from '../driver.ts'

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

/** A URL, and for how many seconds it can be used. */
export interface Presigned {
  readonly url: URL
  readonly seconds: number
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
): Promise<Presigned> {
  return presignUnsent(client, await buildRequest(client, command), seconds, clock)
}

/** The request of a command, as it would be signed next; its headers are those that a client sends by itself. */
export async function buildRequest<I extends ServiceInputTypes, O extends ServiceOutputTypes>(
  client: S3Client,
  command: S3Command<I, O>,
): Promise<HttpRequest> {
  let unsigned: HttpRequest | undefined
  replaceSigning(command, (request) => {
    unsigned = request
    throw new NotSent()
  })
  await client.send(command).catch((error: unknown) => {
    if (!(error instanceof NotSent)) throw error
  })
  if (!unsigned) throw new Error('the request was not built')
  unsigned.headers = { host: unsigned.headers['host'] ?? '' }
  return unsigned
}

/** See presignCommand; the request stays as it is. */
export async function presignUnsent(
  client: S3Client,
  request: HttpRequest,
  seconds: number,
  clock: Clock,
): Promise<Presigned> {
  const now = clock.now() + client.config.systemClockOffset
  const { expiration } = await client.config.credentials()
  const lifeSeconds = expiration ? Math.floor((expiration.getTime() - now) / 1000) : Infinity
  const livesFor = Math.max(1, Math.min(seconds, lifeSeconds))
  const signed = await presignRequest(client, request, new Date(now), livesFor)
  return { url: urlOf(signed), seconds: livesFor }
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
  const { 'x-amz-content-sha256': _, ...kept } = request.headers
  const headers = { ...kept, 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' }
  const unhoistableHeaders = new Set(Object.keys(kept))
  return signer.presign({ ...request, headers }, { expiresIn, signingDate, unhoistableHeaders })
}

function urlOf({ protocol, hostname, port, path, query }: HttpRequest): URL {
  const pairs = Object.entries(query ?? {}).flatMap(([name, value]) =>
    [value ?? ''].flat().map((each) => `${escapeUri(name)}=${escapeUri(each)}`),
  )
  return new URL(`${protocol}//${hostname}${port === undefined ? '' : `:${port}`}${path}?${pairs.join('&')}`)
}

/** RFC 3986, as signatures want it. */
export const escapeUri = (text: string) =>
  encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )

const isPresigner = (signer: object): signer is Presigner => 'presign' in signer

function isHttpRequest(value: unknown): value is HttpRequest {
  return typeof value === 'object' && value !== null && 'headers' in value && 'hostname' in value
}
