import Router from '@koa/router'
import Koa, { type Context } from 'koa'
import { OciError } from '../oci/errors.ts'
import type { Log } from '../telemetry/log.ts'
import { accessLog, type AccessLogOptions } from './access-log.ts'
import { accessOf, identifyCaller, type AccessControl } from './authorize.ts'
import { endpoints, type Endpoint } from './endpoints.ts'
import { exchange, type ExchangeOptions } from './exchange.ts'
import { renderErrors } from './render-errors.ts'

export interface AppOptions extends ExchangeOptions {
  readonly accessControl: AccessControl
  /** For what goes wrong. */
  readonly log: Log
  /** What is told of every request; default: nothing. */
  readonly access?: AccessLogOptions
  /** Whether everything that would change the storage is refused. Default false. */
  readonly isReadOnly?: boolean
}

/** The order in which a request passes: the access log, errors, who asks, the endpoint, then what no endpoint took. */
export function createApp({ log, access, accessControl, isReadOnly = false, ...options }: AppOptions): Koa {
  const app = new Koa()
  const router = new Router()
  for (const { id, method, path, action, handle } of endpoints) {
    router[method](path, async (ctx) => {
      ctx.state.route = id
      const caller = await identifyCaller(ctx, accessControl)
      const asked = exchange(ctx, ctx.captures ?? [], { ...options, may: caller.may })
      if (asked.name) ctx.state.repository = asked.name
      await caller.authorize(accessOf(action, asked.name))
      if (isReadOnly && changesStorage(method)) refuseChange(ctx)
      await handle(asked)
    })
  }
  app.on('error', (error: object) => {
    // Koa tells of connections that broke, too, and without a listener it writes all of them to stderr.
    if (!('syscall' in error)) log.error({ err: error }, 'a request failed')
  })
  if (access) app.use(accessLog(access))
  app.use(renderErrors(log))
  app.use(checkTarget)
  app.use(router.routes())
  app.use(async (ctx) => {
    await identifyCaller(ctx, accessControl)
    refuse(ctx, isReadOnly)
  })
  return app
}

/** Koa parses a target in the absolute form when it is first asked for the path, and throws where it is no URL. */
function checkTarget(ctx: Context, next: () => Promise<void>): Promise<void> {
  try {
    void ctx.path
  } catch (cause) {
    throw new OciError('REQUEST_INVALID', { message: 'the target of the request is not a URL', cause })
  }
  return next()
}

/** Every path answers in the specification's form: Docker 29 breaks at a 404 that is not JSON. */
function refuse(ctx: Context, isReadOnly: boolean): never {
  const allowed = endpoints.filter(({ path }) => path.test(ctx.path))
  if (allowed.length === 0) throw new OciError('NOT_FOUND', { detail: { path: ctx.path.slice(0, 300) } })
  throw new OciError('UNSUPPORTED', {
    message: `${ctx.method} is not supported here`,
    headers: allow(isReadOnly ? allowed.filter(({ method }) => !changesStorage(method)) : allowed),
  })
}

/**
 * 405 UNSUPPORTED: clients show the message with it, and do not try again. At 403 DENIED some would log in anew, and all
 * of them tell their user to.
 */
function refuseChange(ctx: Context): never {
  throw new OciError('UNSUPPORTED', {
    message: 'this registry is read-only right now: it takes no pushes and deletes nothing',
    headers: allow(endpoints.filter(({ method, path }) => !changesStorage(method) && path.test(ctx.path))),
  })
}

function changesStorage(method: Endpoint['method']): boolean {
  return method !== 'get' && method !== 'head'
}

function allow(allowed: readonly Endpoint[]): { readonly Allow: string } {
  // The router answers HEAD wherever there is a GET.
  const names = allowed.flatMap(({ method }) => (method === 'get' ? ['GET', 'HEAD'] : [method.toUpperCase()]))
  return { Allow: [...new Set(names)].join(', ') }
}
