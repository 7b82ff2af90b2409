import type { Context } from 'koa'
import { OciError } from '../oci/errors.ts'
import { parseRepositoryName, type RepositoryName } from '../oci/names.ts'
import type { Registry } from '../registry/registry.ts'
import type { Caller } from './authorize.ts'

/** One request and the way to answer it, as an endpoint's handler gets it. */
export interface Exchange {
  readonly ctx: Context
  readonly registry: Registry
  /** Whether clients may be sent to presigned URLs. */
  readonly redirect: boolean
  /** Whether the caller may do more than what the endpoint is about. */
  readonly may: Caller['may']
  readonly query: URLSearchParams
  /** The repository that the path names. */
  readonly name: RepositoryName
  /** What the path ends in: a reference, a digest, the id of an upload; empty where it has none. */
  readonly last: string
}

export interface ExchangeOptions {
  readonly registry: Registry
  readonly redirect: boolean
}

/**
 * @param captures the path's repository, and what it ends in
 * @throws OciError NAME_INVALID | REQUEST_INVALID
 */
export function exchange(
  ctx: Context,
  captures: readonly string[],
  options: ExchangeOptions & Pick<Exchange, 'may'>,
): Exchange {
  const [name = '', last = ''] = captures.map(decode)
  return {
    ctx,
    ...options,
    query: new URLSearchParams(ctx.querystring),
    // The two endpoints without a repository do not look at it.
    name: captures.length === 0 ? ('' as RepositoryName) : parseRepositoryName(name),
    last,
  }
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch (cause) {
    throw new OciError('REQUEST_INVALID', { message: 'the path is not percent-encoded UTF-8', cause })
  }
}

/** S3's largest object. Buffers are sized by what a client announces, so what nobody could store ends here. */
const maxBodyBytes = 5 * 2 ** 40

/**
 * The length of a request's body in bytes, undefined where it is sent in chunks of unknown number.
 * @throws OciError SIZE_INVALID
 */
export function bodySize({ req }: Context): number | undefined {
  const length = req.headers['content-length']
  if (length === undefined) return req.headers['transfer-encoding'] === undefined ? 0 : undefined
  if (Number(length) <= maxBodyBytes) return Number(length)
  throw new OciError('SIZE_INVALID', {
    status: 413,
    message: `no body may be larger than ${maxBodyBytes} bytes`,
  })
}

/** The body, without ending the connection when its reader gives up: the client is to read why. */
export async function* bodyChunks({ req, state }: Context): AsyncGenerator<Buffer> {
  for await (const chunk of req.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    state.bytesIn = (state.bytesIn ?? 0) + chunk.length
    yield chunk
  }
}
