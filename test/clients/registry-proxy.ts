/**
 * Between a client program and the real server: keeps what was asked and answered, and misbehaves where it was asked
 * to. What goes through is passed on byte for byte, the client's Host with it.
 */
import { once } from 'node:events'
import {
  createServer,
  request,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type ServerResponse,
} from 'node:http'
import { pipeline } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'

export interface SeenRequest {
  readonly method: string
  /** With its query. */
  readonly path: string
  readonly headers: IncomingHttpHeaders
  /** Bytes of the request's body so far. */
  bodyBytes: number
  /** 0 until it is answered. */
  status: number
  answerHeaders: IncomingHttpHeaders
}

export interface Rule {
  readonly matches: (request: SeenRequest) => boolean
  /** How often, from now on. */
  readonly times: number
  readonly does: {
    /** Answered here, its headers' names in lower case; the server never hears of it. */
    readonly answer?: {
      readonly status: number
      readonly headers?: Readonly<Record<string, string>>
      readonly body?: string
    }
    /** The connection is cut when this many bytes of the answer's body have come. */
    readonly cutBodyAt?: number
    /** No more comes after this many bytes of the answer's body, until the client gives up. */
    readonly stallBodyAt?: number
    /** Headers that the server's answer gets beside its own. */
    readonly addHeaders?: Readonly<Record<string, string>>
    /** A header that the server's answer loses, in lower case. */
    readonly removeHeader?: string
  }
}

export interface RegistryProxy {
  /** host:port */
  readonly registry: string
  /** In the order in which they came, since the start or the last forget(). */
  readonly requests: readonly SeenRequest[]
  /** The requests as `METHOD /path status`, those alone that match. */
  log(matches?: RegExp): string[]
  /** The first rule that matches and is not used up decides. */
  misbehave(rule: Rule): void
  forget(): void
  stop(): Promise<void>
}

/** @param server host:port of what is behind it */
export async function startRegistryProxy(server: string): Promise<RegistryProxy> {
  const { hostname, port } = new URL(`http://${server}`)
  const requests: SeenRequest[] = []
  const rules: { rule: Rule; left: number }[] = []

  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const seen: SeenRequest = {
      method: incoming.method ?? '',
      path: incoming.url ?? '',
      headers: incoming.headers,
      bodyBytes: 0,
      status: 0,
      answerHeaders: {},
    }
    requests.push(seen)
    const found = rules.find(({ rule, left }) => left > 0 && rule.matches(seen))
    if (found) found.left--
    await passOn({ hostname, port }, seen, incoming, outgoing, found?.rule.does)
  }
  const listener = createServer((incoming, outgoing) => {
    handle(incoming, outgoing).catch(() => {
      outgoing.destroy()
    })
  })
  listener.listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const address = listener.address()
  if (address === null || typeof address === 'string') throw new Error('no port was given')

  return {
    registry: `127.0.0.1:${address.port}`,
    requests,
    log: (matches = /./) =>
      requests
        .map(({ method, path, status }) => `${method} ${path} ${status}`)
        .filter((line) => matches.test(line)),
    misbehave: (rule) => {
      rules.push({ rule, left: rule.times })
    },
    forget: () => {
      requests.length = 0
    },
    async stop() {
      listener.close()
      listener.closeAllConnections()
      await once(listener, 'close')
    },
  }
}

async function passOn(
  server: { readonly hostname: string; readonly port: string },
  seen: SeenRequest,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  does: Rule['does'] = {},
): Promise<void> {
  if (does.answer) {
    const { status, headers, body = '' } = does.answer
    seen.status = status
    incoming.resume()
    outgoing.writeHead(status, { 'content-length': body.length, ...headers }).end(body)
    return
  }
  const { method, url, headers } = incoming
  const forwarded = request({ ...server, method, path: url, headers })
  forwarded.on('error', () => outgoing.destroy())
  incoming.on('data', (chunk: Buffer) => (seen.bodyBytes += chunk.length)).pipe(forwarded)
  incoming.once('close', () => {
    if (!incoming.complete) forwarded.destroy()
  })
  const [answered] = (await once(forwarded, 'response')) as [IncomingMessage]
  seen.status = answered.statusCode ?? 0
  seen.answerHeaders = answered.headers
  outgoing.writeHead(seen.status, headersOf(answered, does))
  await pipeline(answered, (source: AsyncIterable<Buffer>) => breakOff(source, outgoing, does), outgoing)
}

function headersOf(
  { headers }: IncomingMessage,
  { addHeaders, removeHeader }: Rule['does'],
): OutgoingHttpHeaders {
  return Object.fromEntries(
    Object.entries({ ...headers, ...addHeaders }).filter(([name]) => name !== removeHeader),
  )
}

async function* breakOff(
  source: AsyncIterable<Buffer>,
  outgoing: ServerResponse,
  { cutBodyAt = Infinity, stallBodyAt = Infinity }: Rule['does'],
): AsyncIterable<Buffer> {
  let left = Math.min(cutBodyAt, stallBodyAt)
  for await (const chunk of source) {
    if (chunk.length > left) {
      yield chunk.subarray(0, left)
      if (stallBodyAt < cutBodyAt) await once(outgoing, 'close')
      // What is before the cut has to leave this process before the connection is closed.
      while (outgoing.writableLength > 0) await delay(5)
      throw new Error('broken off, as it was asked for')
    }
    left -= chunk.length
    yield chunk
  }
}
