/** The HTTP server around the application: how connections begin, wait and end. */
import { once } from 'node:events'
import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerOptions,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Clock } from '../clock.ts'
import type { CertificateStore } from './certificate-store.ts'
import {
  maxHeaderBytes,
  refusalBody,
  refusalOf,
  refuseConnection,
  type OnRefused,
  type RefusalReason,
} from './raw-refusal.ts'
import { createTlsServer } from './tls-server.ts'

/** The application; it answers its errors itself. */
export type Handle = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>

export interface ListenOptions {
  /** An empty host is every address of the machine. */
  readonly host: string
  /** 0 is any free port. */
  readonly port: number
  /** With them it speaks HTTPS alone. Whoever opened them closes them. */
  readonly certificates?: CertificateStore | undefined
  readonly clock: Clock
  /** A connection on which the client owes us bytes, or does not take ours, is closed after so long; default 120,000. */
  readonly idleMs?: number
  /** How long the head of a request may take; default 20,000. */
  readonly headersMs?: number
  /** A client answered before it has sent its whole body may go on so long, to see the answer; default 5,000. */
  readonly lingerMs?: number
  /** Told of each request that was refused here, without the application. */
  readonly onRefused?: OnRefused
}

export interface HttpServer {
  readonly host: string
  readonly port: number
  /**
   * Takes no more connections, closes idle ones, and waits for running requests, for at most `graceMs`.
   * Returns how many requests were cut off.
   */
  drain(graceMs: number): Promise<number>
}

/**
 * Longer than the load balancers in front of us keep an idle connection (60 s in the defaults of nginx and of AWS): the
 * one who closes first must be them, or they send a request into a connection that we are closing, and answer 502.
 */
const keepAliveMs = 75_000
/** What a socket reads at once: fewer and larger chunks of a body, against its memory per connection. */
const chunkBytes = 256 * 1024

/** @throws what net.Server throws where it cannot listen: EADDRINUSE, EACCES, EADDRNOTAVAIL, ENOTFOUND */
export async function listen(handle: Handle, options: ListenOptions): Promise<HttpServer> {
  const {
    idleMs = 120_000,
    headersMs = 20_000,
    lingerMs = 5_000,
    clock,
    onRefused = () => undefined,
  } = options
  const serverOptions: ServerOptions = {
    // A large upload takes as long as it takes; silence on its connection is what ends it (onIdle).
    requestTimeout: 0,
    headersTimeout: headersMs,
    connectionsCheckingInterval: Math.min(headersMs, 5_000),
    keepAliveTimeout: keepAliveMs,
    maxHeaderSize: maxHeaderBytes,
    highWaterMark: chunkBytes,
    // TCP's own keep-alive finds clients that vanished while we work for them.
    keepAlive: true,
    keepAliveInitialDelay: 30_000,
    // Checked below, where the answer is the specification's JSON.
    requireHostHeader: false,
  }
  const server = options.certificates
    ? createTlsServer(serverOptions, options.certificates, { handshakeMs: headersMs, onRefused })
    : createServer(serverOptions)
  const exchanges = trackExchanges(server, lingerMs)

  const onRequest = (request: IncomingMessage, response: ServerResponse) => {
    exchanges.begin(response)
    if (request.headers.host === undefined && request.httpVersion !== '1.0') {
      refuse(response, 'no-host', onRefused)
    } else void handle(request, response)
  }
  server.on('request', onRequest)
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    continueOnRead(request, response)
    onRequest(request, response)
  })
  // An expectation that we do not know may be ignored (RFC 9110, section 10.1.1); Node's own refusal is not JSON.
  server.on('checkExpectation', onRequest)
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (exchanges.isAnswering(socket) || !socket.writable || error.code === 'ECONNRESET') socket.destroy()
    else refuseConnection(socket, reasonOfParseError[error.code ?? ''] ?? 'malformed', onRefused)
  })
  server.setTimeout(idleMs, (socket) => {
    if (exchanges.isOurTurn(socket)) socket.setTimeout(idleMs)
    else socket.destroy()
  })

  server.listen(options.port, ...(options.host === '' ? [] : [options.host]))
  await once(server, 'listening')
  const { address, port } = server.address() as AddressInfo
  return { host: address, port, drain: (graceMs) => drain(server, exchanges, clock, graceMs) }
}

type Exchanges = ReturnType<typeof trackExchanges>

/** The requests that are not answered to the end yet. */
function trackExchanges(server: Server, lingerMs: number) {
  const running = new Set<ServerResponse>()
  /** Of TCP, and of TLS on top of it. */
  const connections = new Set<Socket>()
  let isDraining = false

  const track = (socket: Socket) => {
    connections.add(socket)
    socket.once('close', () => connections.delete(socket))
    if (isDraining) socket.destroy()
  }
  server.on('connection', track)
  server.on('secureConnection', track)
  const of = (socket: Duplex) => [...running].filter((response) => response.socket === socket)

  return {
    count: () => running.size,

    begin(response: ServerResponse) {
      running.add(response)
      if (isDraining) response.shouldKeepAlive = false
      response.once('finish', () => {
        if (!response.req.complete) closeUnlessComplete(response.req, lingerMs)
      })
      response.once('close', () => {
        running.delete(response)
        if (isDraining) setImmediate(() => server.closeIdleConnections())
      })
    },

    isAnswering: (socket: Duplex) => of(socket).some((response) => response.headersSent),

    /** Whether nothing is expected of the client: it waits for our storage. */
    isOurTurn: (socket: Duplex) =>
      of(socket).some(
        ({ req, writableLength }) => (req.complete || req.readableLength > 0) && writableLength === 0,
      ),

    drain() {
      isDraining = true
      for (const response of running) if (!response.headersSent) response.shouldKeepAlive = false
      for (const socket of connections) if (socket.bytesRead === 0) socket.destroy()
    },

    /** Those in the middle of a handshake, too, of which server.closeAllConnections() does not know. */
    destroyAll() {
      for (const socket of connections) socket.destroy()
    },
  }
}

/** Node reads and drops the rest of a body whose request was answered already; this bounds it. */
function closeUnlessComplete(request: IncomingMessage, lingerMs: number): void {
  setTimeout(() => {
    if (!request.complete) request.socket.destroy()
  }, lingerMs).unref()
}

/**
 * `Expect: 100-continue`: the client is asked for the body when the application first reads it. So what is refused by
 * its head costs no body, and the connection, on which one may or may not come, is closed after the answer.
 */
function continueOnRead(request: IncomingMessage, response: ServerResponse): void {
  const read = request._read.bind(request)
  const keepAlive = response.shouldKeepAlive
  response.shouldKeepAlive = false
  request._read = (size) => {
    request._read = read
    if (!response.headersSent) {
      response.shouldKeepAlive = keepAlive
      response.writeContinue()
    }
    read(size)
  }
}

/** What is no HTTP request, or not a whole one, never reaches the application. */
const reasonOfParseError: Readonly<Record<string, RefusalReason>> = {
  HPE_HEADER_OVERFLOW: 'head-too-large',
  ERR_HTTP_REQUEST_TIMEOUT: 'head-too-slow',
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 'chunk-extensions-too-large',
}

function refuse(response: ServerResponse, reason: RefusalReason, onRefused: OnRefused): void {
  const refusal = refusalOf(reason, response.socket)
  const body = refusalBody(reason)
  response.shouldKeepAlive = false
  response.writeHead(refusal.status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
  })
  response.end(body)
  onRefused(refusal)
}

async function drain(server: Server, exchanges: Exchanges, clock: Clock, graceMs: number): Promise<number> {
  const closed = once(server, 'close')
  server.close()
  exchanges.drain()
  const timer = new AbortController()
  await Promise.race([closed, clock.sleep(graceMs, timer.signal).catch(() => undefined)])
  timer.abort()
  const cut = exchanges.count()
  exchanges.destroyAll()
  await closed
  return cut
}
