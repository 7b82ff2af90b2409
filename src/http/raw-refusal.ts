/** Refusals of what never became a request of the application, in the specification's form. */
import type { Duplex } from 'node:stream'
import { shownCode, type ErrorCode } from '../oci/errors.ts'

export function refusalBody(code: ErrorCode, message: string): string {
  return JSON.stringify({ errors: [{ code: shownCode(code), message }] })
}

/** Says it on the connection itself, and ends that. */
export function refuseConnection(socket: Duplex, status: string, message: string): void {
  const body = refusalBody('REQUEST_INVALID', message)
  const head = [
    `HTTP/1.1 ${status}`,
    'Connection: close',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
  // Not at once: with bytes of the client unread, closing resets the connection, and the answer with it.
  setTimeout(() => socket.destroy(), 1_000).unref()
}
