import type { IncomingMessage } from 'node:http'
import type { ErrorCode } from '../oci/errors.ts'
import type { RepositoryName } from '../oci/names.ts'

/** What those who answer a request leave in `ctx.state` for whoever tells of it when it has ended (access-log.ts). */
declare module 'koa' {
  interface DefaultState {
    /** Also in the answer, as X-Request-Id. */
    requestId?: string
    /** The specification's number of the endpoint. */
    route?: string
    repository?: RepositoryName
    /** Who it is, once that is known. */
    user?: string
    errorCode?: ErrorCode
    /** Of the body: how much of it was read, how much was sent. */
    bytesIn?: number
    bytesOut?: number
  }
}

const maxPathCharacters = 1_000

/** The path of a request for the log: without its query, which may hold a secret, and without credentials. */
export function loggedPath({ url = '' }: IncomingMessage): string {
  const [path = ''] = url.split('?', 1)
  return printable(path.startsWith('/') ? path : path.replace(/\/\/[^/]*@/, '//'), maxPathCharacters)
}

/** What a client sent, on one line and of bounded length: other than printable ASCII is escaped. */
export function printable(text: string, maxCharacters: number): string {
  const bounded = text.length > maxCharacters ? `${text.slice(0, maxCharacters)}...` : text
  return /^[\x20-\x7e]*$/.test(bounded) ? bounded : bounded.replace(/[^\x20-\x7e]/g, escape)
}

function escape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}
