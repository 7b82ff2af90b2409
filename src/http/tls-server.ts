/** An HTTPS server that tells clients which speak plain HTTP so. */
import { createServer, type Server, type ServerOptions } from 'node:https'
import type { Socket } from 'node:net'
import type { CertificateStore } from './certificate-store.ts'
import { refuseConnection, type OnRefused } from './raw-refusal.ts'

/** What a TLS handshake begins with: the type of its first record. */
const handshakeRecord = 0x16

export interface TlsServerOptions {
  /** How long a connection may take until TLS stands on it. */
  readonly handshakeMs: number
  /** Told of requests in plain HTTP. */
  readonly onRefused: OnRefused
}

export function createTlsServer(
  options: ServerOptions,
  certificates: CertificateStore,
  { handshakeMs, onRefused }: TlsServerOptions,
): Server {
  const server = createServer({
    ...options,
    ...certificates.options(),
    handshakeTimeout: handshakeMs,
    ALPNProtocols: ['http/1.1'],
    SNICallback: (serverName, answer) => answer(null, certificates.contextFor(serverName)),
  })
  // Connections that stand keep what they began with.
  certificates.onReload((renewed) => server.setSecureContext(renewed))
  // First, so that nobody answers a failed handshake in HTTP.
  server.prependListener('tlsClientError', (_, socket) => socket.destroy())

  const handshakes = server.listeners('connection')
  server.removeAllListeners('connection')
  server.on('connection', (socket: Socket) => {
    readFirst(socket, handshakeMs, (first) => {
      if (first[0] === handshakeRecord) for (const begin of handshakes) begin.call(server, socket)
      else refusePlain(socket, first, onRefused)
    })
  })
  return server
}

/** Calls `then` with the first bytes, which whoever reads the socket next reads again. */
function readFirst(socket: Socket, timeoutMs: number, then: (first: Buffer) => void): void {
  const destroy = () => socket.destroy()
  socket.on('error', destroy).setTimeout(timeoutMs, destroy)
  socket.once('data', (first: Buffer) => {
    socket.off('error', destroy).setTimeout(0, destroy)
    socket.pause()
    socket.unshift(first)
    then(first)
  })
}

function refusePlain(socket: Socket, first: Buffer, onRefused: OnRefused): void {
  socket.on('error', () => socket.destroy())
  if (!/^[A-Z]+ /.test(first.toString('latin1', 0, 16))) {
    socket.destroy()
    return
  }
  refuseConnection(socket, 'plain-http', onRefused)
}
