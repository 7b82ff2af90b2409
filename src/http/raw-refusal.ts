/** Refusals of what never became a request of the application, in the specification's form. */
import { STATUS_CODES } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { errorCodes, shownCode } from '../oci/errors.ts'

/** Bearer tokens of identity providers outgrow Node's 16 KiB. */
export const maxHeaderBytes = 32 * 1024

const answers = {
  malformed: [400, errorCodes.REQUEST_INVALID.message],
  'no-host': [400, 'a request needs a Host header'],
  'plain-http': [400, 'this port speaks HTTPS, and the request came in plain HTTP'],
  'head-too-slow': [408, 'the head of the request did not come in time'],
  'chunk-extensions-too-large': [413, 'chunk extensions are too large'],
  'head-too-large': [431, `headers are larger than ${maxHeaderBytes} bytes`],
} as const satisfies Readonly<Record<string, readonly [status: number, message: string]>>

export type RefusalReason = keyof typeof answers

/** At most one a connection, which ends with it. It has nothing of what the client sent. */
export interface Refusal {
  readonly status: number
  readonly reason: RefusalReason
  /** The address of the connection, where that is still known. */
  readonly remote: string | undefined
}

export type OnRefused = (refusal: Refusal) => void

export function refusalOf(reason: RefusalReason, connection: Duplex | null): Refusal {
  const remote = connection instanceof Socket ? connection.remoteAddress : undefined
  return { status: answers[reason][0], reason, remote }
}

export function refusalBody(reason: RefusalReason): string {
  return JSON.stringify({ errors: [{ code: shownCode('REQUEST_INVALID'), message: answers[reason][1] }] })
}

/** Says it on the connection itself, and ends that. */
export function refuseConnection(socket: Duplex, reason: RefusalReason, onRefused: OnRefused): void {
  const refusal = refusalOf(reason, socket)
  const body = refusalBody(reason)
  const head = [
    `HTTP/1.1 ${refusal.status} ${STATUS_CODES[refusal.status]}`,
    'Connection: close',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
  ]
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`)
  // Not at once: with bytes of the client unread, closing resets the connection, and the answer with it.
  setTimeout(() => socket.destroy(), 1_000).unref()
  onRefused(refusal)
}
