import { randomUUID } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Context, Middleware } from 'koa'
import type { Clock } from '../clock.ts'
import type { Log } from '../telemetry/log.ts'
import type { HttpMetrics } from '../telemetry/metrics.ts'
import type { OnRefused } from './raw-refusal.ts'
import { loggedPath, printable } from './request-state.ts'

export interface AccessLogOptions {
  readonly clock: Pick<Clock, 'monotonic'>
  /** A line for each request; without it there are none. */
  readonly log?: Log
  readonly metrics?: HttpMetrics
}

/** What nginx and others log for a request whose client went away before there was an answer. */
const clientClosedRequest = 499

/**
 * Before everything else: gives each request its id, and tells of it once it has ended, in one line and in the metrics.
 * It reads Node's own objects: through Koa's getters a line costs more than twice as much.
 */
export function accessLog({ clock, log, metrics }: AccessLogOptions): Middleware {
  return (ctx, next) => {
    ctx.state.requestId = requestIdOf(ctx.req)
    if (log || metrics) {
      const began = clock.monotonic()
      // Of a connection that has closed it would no longer be known.
      const remote = ctx.req.socket.remoteAddress
      metrics?.requestBegan()
      ctx.res.once('close', () => {
        const ms = clock.monotonic() - began
        if (metrics) countRequest(ctx, ms, metrics)
        if (log) logRequest(ctx, { remote, ms }, log)
      })
    }
    return next()
  }
}

/** Tells of what the server refused before it was a request: somebody's fault, and not ours, so never an error. */
export function refusalLog({ log, metrics }: Pick<AccessLogOptions, 'log' | 'metrics'>): OnRefused {
  return ({ remote, status, reason }) => {
    metrics?.requestRefused(reason)
    log?.info({ remote, status, reason }, 'refused')
  }
}

/** One that a proxy gave is kept, so that its log and ours can be put together. */
function requestIdOf({ headers }: IncomingMessage): string {
  const given = headers['x-request-id']
  return typeof given === 'string' && /^[A-Za-z0-9][\w.:/+=@-]{0,127}$/.test(given) ? given : randomUUID()
}

function statusOf(res: ServerResponse): number {
  return res.headersSent ? res.statusCode : clientClosedRequest
}

const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'])

/** Labels have few values, whatever clients send. */
function countRequest({ req, res, state }: Context, ms: number, metrics: HttpMetrics): void {
  const { method = '' } = req
  metrics.requestEnded({
    method: methods.has(method) ? method : 'other',
    route: state.route ?? 'none',
    status: statusOf(res),
    seconds: ms / 1000,
    bytesIn: state.bytesIn ?? 0,
    bytesOut: state.bytesOut ?? 0,
    isCut: !res.writableFinished,
  })
}

const maxUserAgentCharacters = 256
const maxUserCharacters = 256

/** The cause of a 5xx has a line of its own, with the same id (render-errors.ts). */
function logRequest(
  { req, res, state }: Context,
  { remote, ms }: { remote: string | undefined; ms: number },
  log: Log,
): void {
  const status = statusOf(res)
  const agent = req.headers['user-agent']
  log[status >= 500 ? 'error' : 'info'](
    {
      requestId: state.requestId,
      remote,
      user: state.user === undefined ? undefined : printable(state.user, maxUserCharacters),
      method: req.method,
      path: loggedPath(req),
      route: state.route,
      repository: state.repository,
      status,
      error: state.errorCode,
      isCut: res.writableFinished ? undefined : true,
      durationMs: Math.round(ms * 1000) / 1000,
      bytesIn: state.bytesIn ?? 0,
      bytesOut: state.bytesOut ?? 0,
      userAgent: agent === undefined ? undefined : printable(agent, maxUserAgentCharacters),
    },
    'request',
  )
}
