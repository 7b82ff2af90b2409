/**
 * What can be wrong, with the status and the message that it has unless its thrower says more: one table. "The `code`
 * field MUST be one of" the specification's ("Error Codes"), so what it has no word for shows one of its codes.
 */
export const errorCodes = {
  BLOB_UNKNOWN: { status: 404, message: 'blob unknown to registry' },
  BLOB_UPLOAD_INVALID: { status: 400, message: 'blob upload invalid' },
  BLOB_UPLOAD_UNKNOWN: { status: 404, message: 'blob upload unknown to registry' },
  DIGEST_INVALID: { status: 400, message: 'provided digest did not match uploaded content' },
  MANIFEST_BLOB_UNKNOWN: {
    status: 404,
    message: 'manifest references a manifest or blob unknown to registry',
  },
  MANIFEST_INVALID: { status: 400, message: 'manifest invalid' },
  MANIFEST_UNKNOWN: { status: 404, message: 'manifest unknown to registry' },
  NAME_INVALID: { status: 400, message: 'invalid repository name' },
  NAME_UNKNOWN: { status: 404, message: 'repository name not known to registry' },
  SIZE_INVALID: { status: 400, message: 'provided length did not match content length' },
  UNAUTHORIZED: { status: 401, message: 'authentication required' },
  DENIED: { status: 403, message: 'requested access to the resource is denied' },
  UNSUPPORTED: { status: 405, message: 'the operation is unsupported' },
  TOOMANYREQUESTS: { status: 429, message: 'too many requests' },
  // "Legacy Docker support error codes": clients may meet it.
  TAG_INVALID: { status: 400, message: 'invalid tag' },
  // Without a code of their own:
  CHUNK_OUT_OF_ORDER: { shown: 'BLOB_UPLOAD_INVALID', status: 416, message: 'chunk out of order' },
  NOT_FOUND: { shown: 'UNSUPPORTED', status: 404, message: 'no such endpoint' },
  PAGE_INVALID: { shown: 'UNSUPPORTED', status: 400, message: 'invalid number of results requested' },
  RANGE_INVALID: { shown: 'SIZE_INVALID', status: 416, message: 'requested range not satisfiable' },
  REQUEST_INVALID: { shown: 'UNSUPPORTED', status: 400, message: 'the request is malformed' },
  // The specification speaks of 4XX alone.
  UNAVAILABLE: { status: 503, message: 'service temporarily unavailable, try again' },
  UNKNOWN: { status: 500, message: 'internal error' },
} as const satisfies Record<string, { status: number; message: string; shown?: string }>

export type ErrorCode = keyof typeof errorCodes

/** What stands in an answer's `code`. */
export function shownCode(code: ErrorCode): string {
  const row = errorCodes[code]
  return 'shown' in row ? row.shown : code
}

export interface OciErrorOptions {
  /** What went wrong with this request, for a person; replaces the table's message. */
  readonly message?: string
  /** Machine-readable particulars, sent as `detail`. */
  readonly detail?: unknown
  /** Where the same code has another status, such as 413 for a manifest that is too large. */
  readonly status?: number
  /** Response headers that belong to this error, such as `Range` on 416 or `Retry-After` on 503. */
  readonly headers?: Readonly<Record<string, string>>
  readonly cause?: unknown
}

/** An answer of the registry that is not a success. The renderer turns it into the specification's JSON. */
export class OciError extends Error {
  readonly code: ErrorCode
  readonly status: number
  readonly detail: unknown
  readonly headers: Readonly<Record<string, string>>

  constructor(code: ErrorCode, options: OciErrorOptions = {}) {
    super(options.message ?? errorCodes[code].message, { cause: options.cause })
    this.name = 'OciError'
    this.code = code
    this.status = options.status ?? errorCodes[code].status
    this.detail = options.detail
    this.headers = options.headers ?? {}
  }
}
