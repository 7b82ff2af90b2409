/**
 * What S3 and the servers that speak like it answer, and what it means here: one table for all providers.
 *
 * | answer                                                  | here                                               |
 * | ------------------------------------------------------- | -------------------------------------------------- |
 * | 404 NoSuchKey; of a HEAD, which has no body, any 404    | absent                                             |
 * | 412 PreconditionFailed; AWS, MinIO, Ceph, versitygw     | PreconditionFailed                                 |
 * | 409 ConditionalRequestConflict, OperationAborted (AWS)  | asked again: another creation was under way        |
 * | 409 ExistingObjectIsDirectory (versitygw)               | the same: another was emptying the folder          |
 * | 403 AccessDenied "Access Denied." (MinIO, so worded)    | the same, before it counts as what it says         |
 * | 403 RequestTimeTooSkewed of a request with a lease      | LeaseExpired                                       |
 * | 403 AccessDenied "Request has expired", the same        | LeaseExpired (presigned; AWS, MinIO, versitygw)    |
 * | 403 without these words, later than the lease (Ceph)    | LeaseExpired                                       |
 * | SlowDown, 429, 5xx, no answer, after the attempts       | StorageUnavailable, with Retry-After where given   |
 * | 200 with an <Error> in its body (completions, copies)   | the SDK makes 503 of it, which is asked again      |
 * | NoSuchBucket, AccessDenied, InvalidAccessKeyId, ...     | S3Error, which says what an operator can do        |
 */
import { LeaseExpired, PreconditionFailed, StorageUnavailable, type RemoveLease } from '../driver.ts'

/** The storage refused, for a reason that asking again does not cure. */
export class S3Error extends Error {
  override readonly name = 'S3Error'
  readonly code: string
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** What is known of a failed request. */
export interface Fault {
  /** The status of the answer; undefined: there was none, and the request may still take effect. */
  readonly status?: number
  /** The code in the answer's body, or the name or system code of the error where there was no answer. */
  readonly code: string
  readonly message: string
  /** The storage's own clock, in ms, where it answered. */
  readonly date?: number
  readonly retryAfterSeconds?: number
  readonly attempts: number
  /** The storage's answer said that this machine's clock is wrong, and the client has set itself right since. */
  readonly isSkewCorrected: boolean
}

export function faultOf(error: unknown): Fault {
  const metadata = field(error, '$metadata')
  const response = field(error, '$response')
  const status = numberOf(field(metadata, 'httpStatusCode')) ?? numberOf(field(response, 'statusCode'))
  const headers = field(response, 'headers')
  const date = Date.parse(stringOf(field(headers, 'date')))
  const retryAfterSeconds = Number.parseInt(stringOf(field(headers, 'retry-after')), 10)
  return {
    ...(status !== undefined && { status }),
    code: codeOf(error),
    message: stringOf(field(error, 'message')) || String(error),
    ...(!Number.isNaN(date) && { date }),
    ...(!Number.isNaN(retryAfterSeconds) && { retryAfterSeconds }),
    attempts: numberOf(field(metadata, 'attempts')) ?? 1,
    isSkewCorrected: field(metadata, 'clockSkewCorrected') === true,
  }
}

/** There is no object, in the storage's own words: a gateway's 404 is not proof of absence. */
export function isNoSuchKey(fault: Fault): boolean {
  return fault.status === 404 && fault.code === 'NoSuchKey'
}

/** The same of a HEAD, whose answer has no words. */
export function isHeadAbsent(fault: Fault): boolean {
  return isNoSuchKey(fault) || (fault.status === 404 && fault.code === 'NotFound')
}

export function isUploadGone(fault: Fault): boolean {
  return fault.status === 404 && fault.code === 'NoSuchUpload'
}

/** A race inside the storage, which another attempt does not meet. */
export function isConflict(fault: Fault): boolean {
  if (fault.status === 403) return fault.code === 'AccessDenied' && fault.message === 'Access Denied.'
  return fault.status === 409 && conflicts.has(fault.code)
}

const conflicts = new Set(['ConditionalRequestConflict', 'OperationAborted', 'ExistingObjectIsDirectory'])

/** Whether asking again may help. */
export function isTransient({ status, code }: Fault): boolean {
  if (status === undefined) return !lasting.has(code) && !isCertificateFault(code)
  return status === 429 || status >= 500 || momentary.has(code)
}

/**
 * Whether the storage itself said that it did nothing. A gateway's 502 or 504, and a 500, may come before the request
 * that it speaks of has taken effect.
 */
export function isRefusal({ status, code }: Fault): boolean {
  return status !== undefined && (status < 500 || momentary.has(code))
}

/** Refusals that another attempt may not meet; RequestTimeout: the body came too slowly. */
const momentary = new Set([
  'SlowDown',
  'TooManyRequests',
  'RequestLimitExceeded',
  'ThrottlingException',
  'RequestTimeout',
])

/** Codes without an answer that no later attempt will change. */
const lasting = new Set(['CredentialsProviderError', 'AbortError', 'TypeError'])

const isCertificateFault = (code: string) => /CERT|SELF_SIGNED|UNABLE_TO_|ERR_TLS|EPROTO/.test(code)

export interface FaultContext {
  /** What was asked for, in words for a log: the bucket and the key. */
  readonly target: string
  readonly key: string
  readonly lease?: RemoveLease
}

/** The error of this project for an error of the SDK. */
export function translate(error: unknown, { target, key, lease }: FaultContext): Error {
  const fault = faultOf(error)
  const options = { cause: error }
  if (lease && isOver(fault, lease)) return new LeaseExpired(key, options)
  if (fault.status === 412) return new PreconditionFailed(key, options)
  if (isTransient(fault)) {
    const { retryAfterSeconds } = fault
    return new StorageUnavailable(`the storage did not serve ${target}: ${said(fault)}`, {
      ...options,
      mayStillHappen: !isRefusal(fault),
      ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
    })
  }
  const kind = isCertificateFault(fault.code) ? 'certificate' : fault.code
  // The answer to a HEAD has a status alone.
  const advice = adviceOf[kind] ?? adviceOf[`${fault.status}`]
  const message = `the storage refused ${target}: ${said(fault)}`
  return new S3Error(fault.code, advice ? `${message}. ${advice}` : message, options)
}

function isOver({ status, code, message, date }: Fault, lease: RemoveLease): boolean {
  if (status !== 403 && status !== 400) return false
  if (code === 'RequestTimeTooSkewed' || code === 'RequestExpired') return true
  if (code !== 'AccessDenied') return false
  return /expired/i.test(message) || (date !== undefined && date > lease.date + lease.durationMs)
}

const said = ({ status, code, message }: Fault) =>
  [status, code, message === code ? '' : message]
    .filter((word) => word !== undefined && word !== '')
    .join(' ')

const rights =
  's3:GetObject, PutObject, DeleteObject, AbortMultipartUpload and ListMultipartUploadParts on the objects, ' +
  's3:ListBucket and ListBucketMultipartUploads on the bucket'
const denied = `Give these credentials ${rights} (and on an encrypted bucket kms:GenerateDataKey and kms:Decrypt on its key)`
const wrongRegion = 'Set the region of the bucket'

const adviceOf: Readonly<Record<string, string>> = {
  NoSuchBucket: 'Create the bucket, or correct its name',
  AccessDenied: denied,
  '403': denied,
  InvalidAccessKeyId:
    'The access key is unknown there: check AWS_ACCESS_KEY_ID, or the role of the service account',
  SignatureDoesNotMatch: 'The secret key does not belong to the access key: check AWS_SECRET_ACCESS_KEY',
  ExpiredToken: 'The session token is over: renew the credentials',
  InvalidToken: 'The session token is not valid there: renew the credentials',
  AuthorizationHeaderMalformed: wrongRegion,
  PermanentRedirect: wrongRegion,
  '301': wrongRegion,
  IllegalLocationConstraintException: wrongRegion,
  InvalidBucketName: 'Correct the name of the bucket',
  RequestTimeTooSkewed: 'Set the clock of this machine or of the storage',
  CredentialsProviderError:
    'No credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod a role ' +
    '(EKS Pod Identity, or IAM roles for service accounts)',
  certificate: 'The certificate of the storage is not trusted: name the file of its authority',
}

function codeOf(error: unknown): string {
  const name = stringOf(field(error, 'name'))
  if (name !== '' && name !== 'Error' && name !== 'TimeoutError') return name
  return stringOf(field(error, 'Code')) || stringOf(field(error, 'code')) || name || 'UnknownError'
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined
}

const stringOf = (value: unknown) => (typeof value === 'string' ? value : '')
const numberOf = (value: unknown) => (typeof value === 'number' ? value : undefined)
