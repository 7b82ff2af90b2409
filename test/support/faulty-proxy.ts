/**
 * Misbehaviour in front of a real S3 server: what goes through is real, and what goes wrong was asked for. A client
 * signs for the proxy's address, which is passed on as the Host it was signed with.
 */
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { createServer, request, type IncomingMessage, type ServerResponse } from 'node:http'
import { once } from 'node:events'
import { buffer } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import type { S3Server } from './s3-servers.ts'

/** A request by the name of its operation, such as PutObject or CompleteMultipartUpload. */
export interface ProxiedRequest {
  readonly operation: string
  readonly bucket: string
  readonly key: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly query: URLSearchParams
  readonly body: Buffer
}

export interface Answer {
  readonly status: number
  readonly code: string
  readonly headers?: Readonly<Record<string, string>>
  /** Default: an S3 error with the code. */
  readonly body?: string
}

export interface Misbehaviour {
  /** Answered here; the server never hears of it. */
  readonly answer?: Answer
  /** Passed on, and answered otherwise than the server did. */
  readonly replace?: Answer
  /** The connection is cut before the request is passed on, or after the server has answered. */
  readonly cut?: 'before' | 'after'
  /** The connection is cut when this many bytes of the answer's body have come. */
  readonly cutBodyAt?: number
  /** If-None-Match is left out: a backend that ignores conditions and says all went well. */
  readonly ignoreCondition?: true
  readonly delayMs?: number
  /** Passed on once the promise is settled. */
  readonly until?: Promise<unknown>
}

export interface Rule {
  /** The operation's name, or a test of the request; default: every request. */
  readonly matches?: string | ((request: ProxiedRequest) => boolean)
  /** How often, from now on; default: always. */
  readonly times?: number
  readonly does: Misbehaviour
}

export interface FaultyProxy {
  readonly endpoint: string
  /** Rules are tried in the order in which they came; the first that matches and is not used up decides. */
  misbehave(rule: Rule): void
  /** From now on everything is passed on as it is. */
  behave(): void
  /** What was asked for since the start or the last call of forget(). */
  readonly requests: readonly ProxiedRequest[]
  count(operation: string): number
  forget(): void
  stop(): Promise<void>
}

export async function startFaultyProxy(server: S3Server): Promise<FaultyProxy> {
  const { hostname, port } = new URL(server.endpoint)
  const client = unconditionalClient(server)
  let rules: (Rule & { left: number })[] = []
  const requests: ProxiedRequest[] = []

  const listener = createServer((incoming, outgoing) => {
    handle(incoming, outgoing).catch(() => {
      outgoing.destroy()
    })
  })
  async function handle(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const proxied = await readRequest(incoming)
    requests.push(proxied)
    const rule = rules.find(({ matches, left }) => left > 0 && isMatch(matches, proxied))
    if (rule) rule.left--
    await misbehaveOr(rule?.does, {
      incoming,
      outgoing,
      passOn: () => passOn({ hostname, port }, incoming, proxied.body, outgoing, rule?.does),
      putWithoutCondition: () => putWithoutCondition(client, proxied, outgoing),
    })
  }
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const address = listener.address()
  if (address === null || typeof address === 'string') throw new Error('no port was given')

  return {
    endpoint: `http://127.0.0.1:${address.port}`,
    misbehave: (rule) => {
      rules.push({ ...rule, left: rule.times ?? Infinity })
    },
    behave: () => {
      rules = []
    },
    requests,
    count: (operation) => requests.filter((each) => each.operation === operation).length,
    forget: () => {
      requests.length = 0
    },
    async stop() {
      client.destroy()
      listener.close()
      listener.closeAllConnections()
      await once(listener, 'close')
    },
  }
}

interface Exchange {
  readonly incoming: IncomingMessage
  readonly outgoing: ServerResponse
  passOn(): Promise<void>
  putWithoutCondition(): Promise<void>
}

async function misbehaveOr(does: Misbehaviour = {}, exchange: Exchange): Promise<void> {
  if (does.answer) return answer(exchange.outgoing, does.answer)
  if (does.cut === 'before') return void exchange.incoming.socket.destroy()
  if (does.delayMs) await delay(does.delayMs)
  await does.until
  const isConditional = exchange.incoming.headers['if-none-match'] !== undefined
  if (does.ignoreCondition && isConditional) return exchange.putWithoutCondition()
  return exchange.passOn()
}

function isMatch(matches: Rule['matches'], proxied: ProxiedRequest): boolean {
  if (matches === undefined) return true
  return typeof matches === 'string' ? proxied.operation === matches : matches(proxied)
}

async function readRequest(incoming: IncomingMessage): Promise<ProxiedRequest> {
  const url = new URL(incoming.url ?? '/', 'http://proxy')
  const [, bucket = '', key = ''] = /^\/([^/]*)\/?(.*)$/.exec(decodeURIComponent(url.pathname)) ?? []
  const operation = operationOf(incoming.method, url.searchParams)
  return {
    operation,
    bucket,
    key,
    headers: incoming.headers,
    query: url.searchParams,
    body: await buffer(incoming),
  }
}

/** The SDK names most operations in their query; the others are told by these. */
const unnamedOperations: readonly (readonly [method: string, parameter: string, operation: string])[] = [
  ['HEAD', '', 'HeadObject'],
  ['GET', 'list-type', 'ListObjectsV2'],
  ['GET', 'uploads', 'ListMultipartUploads'],
  ['POST', 'delete', 'DeleteObjects'],
  ['POST', 'uploads', 'CreateMultipartUpload'],
  ['POST', 'uploadId', 'CompleteMultipartUpload'],
]

function operationOf(method: string | undefined, query: URLSearchParams): string {
  const named = query.get('x-id')
  if (named !== null) return named
  const found = unnamedOperations.find(
    ([of, parameter]) => of === method && (!parameter || query.has(parameter)),
  )
  return found?.[2] ?? `${method}`
}

function errorBody(code: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>asked for</Message></Error>`
}

function answer(outgoing: ServerResponse, { status, code, headers, body }: Answer): void {
  outgoing.writeHead(status, { 'content-type': 'application/xml', ...headers }).end(body ?? errorBody(code))
}

async function passOn(
  server: { readonly hostname: string; readonly port: string },
  { method, url, headers }: IncomingMessage,
  body: Buffer,
  outgoing: ServerResponse,
  { cut, replace, cutBodyAt = Infinity }: Misbehaviour = {},
): Promise<void> {
  const forwarded = request({ ...server, method, path: url, headers }).end(body)
  const [incoming] = (await once(forwarded, 'response')) as [IncomingMessage]
  if (cut || replace) await buffer(incoming)
  if (cut) return void outgoing.socket?.destroy()
  if (replace) return answer(outgoing, replace)
  outgoing.writeHead(incoming.statusCode ?? 502, incoming.rawHeaders)
  await passBody(incoming, outgoing, cutBodyAt)
}

async function passBody(incoming: IncomingMessage, outgoing: ServerResponse, cutAt: number): Promise<void> {
  // A client that leaves early is gone for the server too, which may hold a lock on the object for it.
  outgoing.once('close', () => incoming.destroy())
  let left = cutAt
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    if (chunk.length > left) {
      outgoing.write(chunk.subarray(0, left))
      // What was written has to be on its way before the connection is cut.
      await delay(20)
      return void outgoing.destroy()
    }
    left -= chunk.length
    if (!outgoing.write(chunk)) await once(outgoing, 'drain')
  }
  outgoing.end()
}

function unconditionalClient({ endpoint, region, accessKeyId, secretAccessKey }: S3Server): S3Client {
  return new S3Client({
    endpoint,
    region,
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
  })
}

/** The condition is under the request's signature, so that the write has to be made anew without it. */
async function putWithoutCondition(
  client: S3Client,
  { bucket, key, body }: ProxiedRequest,
  outgoing: ServerResponse,
): Promise<void> {
  const { ETag = '' } = await client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: body }))
  outgoing.writeHead(200, { etag: ETag }).end()
}
