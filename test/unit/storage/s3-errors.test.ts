import { describe, expect, test } from '@jest/globals'
import { faultOf, isRefusal, isTransient, translate } from '../../../src/storage/s3/errors.ts'

const lease = { date: Date.UTC(2030, 0, 1), durationMs: 60_000 }

/** An error as the SDK throws it. */
function sdkError(
  status: number | undefined,
  name: string,
  message = '',
  headers: Record<string, string> = {},
): Error {
  return Object.assign(new Error(message), {
    name,
    ...(status !== undefined && {
      $metadata: { httpStatusCode: status },
      $response: { statusCode: status, headers },
    }),
  })
}

const later = new Date(lease.date + 61_000).toUTCString()
const within = new Date(lease.date + 59_000).toUTCString()

describe('what S3 servers answer', () => {
  test.each([
    [412, 'PreconditionFailed', '', {}, 'PreconditionFailed'],
    [503, 'SlowDown', '', {}, 'StorageUnavailable'],
    [429, 'TooManyRequests', '', {}, 'StorageUnavailable'],
    [500, 'InternalError', '', {}, 'StorageUnavailable'],
    [504, 'Unknown', '', {}, 'StorageUnavailable'],
    [undefined, 'TimeoutError', '', {}, 'StorageUnavailable'],
    [403, 'RequestTimeTooSkewed', '', { date: within }, 'LeaseExpired'],
    [403, 'AccessDenied', 'Request has expired', { date: within }, 'LeaseExpired'],
    [403, 'AccessDenied', '', { date: later }, 'LeaseExpired'],
    [403, 'AccessDenied', '', { date: within }, 'S3Error'],
    [400, 'ExpiredToken', 'The provided token has expired.', { date: later }, 'S3Error'],
    [403, 'InvalidAccessKeyId', '', { date: later }, 'S3Error'],
    [404, 'NoSuchBucket', '', {}, 'S3Error'],
  ] as const)('%s %s "%s" %j to a request with a lease is %s', (status, name, message, headers, expected) => {
    const error = translate(sdkError(status, name, message, headers), { target: 'b/a', key: 'a', lease })
    expect(error.name).toBe(expected)
  })

  test('without a lease nothing is an expired lease', () => {
    const error = sdkError(403, 'RequestTimeTooSkewed', '', { date: later })
    expect(translate(error, { target: 'b/a', key: 'a' }).message).toMatch(/Set the clock/)
  })

  test('certificates that are not trusted, and credentials that are not there, are nothing to wait for', () => {
    for (const code of ['SELF_SIGNED_CERT_IN_CHAIN', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE']) {
      const error = Object.assign(new Error('tls'), { code })
      expect(translate(error, { target: 'b/a', key: 'a' }).message).toMatch(/certificate/)
    }
    expect(translate(sdkError(undefined, 'CredentialsProviderError'), { target: 'b/a', key: 'a' }).name).toBe(
      'S3Error',
    )
  })

  test('only what the storage itself refused is known to have no effect', () => {
    const refused = (status: number | undefined, name: string) => isRefusal(faultOf(sdkError(status, name)))
    expect([refused(503, 'SlowDown'), refused(429, 'x'), refused(403, 'AccessDenied')]).toEqual([
      true,
      true,
      true,
    ])
    expect([refused(500, 'InternalError'), refused(504, 'x'), refused(undefined, 'x')]).toEqual([
      false,
      false,
      false,
    ])
    expect(isTransient(faultOf(sdkError(403, 'AccessDenied')))).toBe(false)
  })
})
