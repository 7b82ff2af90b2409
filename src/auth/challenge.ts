/** HTTP's Basic scheme (RFC 7617): the header that asks, and the header that answers. */
import { OciError } from '../oci/errors.ts'

/** `charset`: credentials are UTF-8, and clients that know of it need not guess. */
const challenge = { 'WWW-Authenticate': 'Basic realm="stowage", charset="UTF-8"' }

/** A 401, which is the only answer after which clients send credentials. */
export function unauthorized(message?: string): OciError {
  return new OciError('UNAUTHORIZED', { headers: challenge, ...(message !== undefined && { message }) })
}

export interface Credentials {
  readonly user: string
  readonly password: string
}

const basic = /^basic +([A-Za-z0-9+/]+={0,2})$/i
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * The credentials of an Authorization header. Undefined where both are empty, which is what podman and skopeo send
 * when they have none.
 * @throws OciError UNAUTHORIZED where they are not Basic, or malformed; the header is not repeated
 */
export function parseAuthorization(header: string): Credentials | undefined {
  const encoded = basic.exec(header)?.[1]
  if (encoded === undefined) throw unauthorized('malformed Authorization: expected Basic credentials')
  const text = decode(encoded)
  const colon = text?.indexOf(':') ?? -1
  // "The user-id and password MUST NOT contain any control characters" (section 2).
  if (text === undefined || colon < 0 || /\p{Cc}/u.test(text)) {
    throw unauthorized('malformed Authorization: expected the Base64 of user:password in UTF-8')
  }
  if (text === ':') return undefined
  return { user: text.slice(0, colon), password: text.slice(colon + 1) }
}

function decode(encoded: string): string | undefined {
  const bytes = Buffer.from(encoded, 'base64')
  if (bytes.toString('base64') !== encoded) return undefined
  try {
    return utf8.decode(bytes)
  } catch {
    return undefined
  }
}
