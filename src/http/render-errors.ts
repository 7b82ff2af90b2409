import type { Context, Middleware } from 'koa'
import { OciError, shownCode } from '../oci/errors.ts'
import { ObjectTooLarge, StorageUnavailable } from '../registry/registry.ts'
import type { Log } from '../telemetry/log.ts'
import { answerJson } from './answer.ts'
import { loggedPath } from './request-state.ts'

/** Outermost: every error leaves here, in the specification's form ("Error Codes"), and is logged once. */
export function renderErrors(log: Log): Middleware {
  return async (ctx, next) => {
    try {
      await next()
    } catch (error) {
      renderError(ctx, error, log)
    }
  }
}

const clientGone = 'the client went away'

function renderError(ctx: Context, error: unknown, log: Log): void {
  // Not ctx.path: a target that cannot be parsed is one of the errors.
  const request = { requestId: ctx.state.requestId, method: ctx.method, path: loggedPath(ctx.req) }
  if (ctx.res.headersSent) {
    // The status is out: all that is left to say is that this answer is not whole.
    if (ctx.req.socket.destroyed) log.debug({ ...request, err: error }, clientGone)
    else log.error({ ...request, err: error }, 'an answer was cut short')
    ctx.res.destroy()
    return
  }
  if (ctx.req.destroyed && !ctx.req.complete) {
    log.debug({ ...request, err: error }, clientGone)
    ctx.respond = false
    ctx.res.destroy()
    return
  }
  const shown = toOciError(error)
  if (shown.status >= 500) log.error({ ...request, err: error }, 'a request failed')
  const { code, message, detail, status, headers } = shown
  ctx.state.errorCode = code
  const errors = [{ code: shownCode(code), message, ...(detail === undefined ? {} : { detail }) }]
  answerJson(ctx, status, { errors }, headers)
}

function toOciError(error: unknown): OciError {
  if (error instanceof OciError) return error
  if (error instanceof StorageUnavailable) {
    return new OciError('UNAVAILABLE', {
      message: 'the storage does not answer right now; try again',
      headers: { 'Retry-After': String(error.retryAfterSeconds) },
      cause: error,
    })
  }
  if (error instanceof ObjectTooLarge) {
    return new OciError('SIZE_INVALID', { status: 413, message: error.message, cause: error })
  }
  return new OciError('UNKNOWN', { message: 'internal error; the log of the server says more', cause: error })
}
