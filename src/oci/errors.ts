/**
 * The error codes of the distribution specification ("Error Codes"), and the few that it lacks:
 * one table, from code to the status and the message that the code has unless its thrower says more.
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
  TAG_INVALID: { status: 400, message: 'invalid tag' },
  UNAUTHORIZED: { status: 401, message: 'authentication required' },
  DENIED: { status: 403, message: 'requested access to the resource is denied' },
  UNSUPPORTED: { status: 405, message: 'the operation is unsupported' },
  TOOMANYREQUESTS: { status: 429, message: 'too many requests' },
  // Beyond the specification's table:
  NOT_FOUND: { status: 404, message: 'no such endpoint' },
  PAGINATION_NUMBER_INVALID: { status: 400, message: 'invalid number of results requested' },
  RANGE_INVALID: { status: 416, message: 'requested range not satisfiable' },
  REQUEST_INVALID: { status: 400, message: 'the request is malformed' },
  UNAVAILABLE: { status: 503, message: 'service temporarily unavailable, try again' },
  UNKNOWN: { status: 500, message: 'internal error' },
} as const satisfies Record<string, { status: number; message: string }>

export type ErrorCode = keyof typeof errorCodes

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
