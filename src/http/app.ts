import Router from '@koa/router'
import Koa, { type Context } from 'koa'
import { OciError } from '../oci/errors.ts'
import type { Log } from '../telemetry/log.ts'
import { accessOf, identifyCaller, type AccessControl } from './authorize.ts'
import { endpoints } from './endpoints.ts'
import { exchange, type ExchangeOptions } from './exchange.ts'
import { renderErrors } from './render-errors.ts'

export interface AppOptions extends ExchangeOptions {
  readonly accessControl: AccessControl
  readonly log: Log
}

/** The order in which a request passes: errors outermost, who asks, the endpoint, then what no endpoint took. */
export function createApp({ log, accessControl, ...options }: AppOptions): Koa {
  const app = new Koa()
  const router = new Router()
  for (const { method, path, action, handle } of endpoints) {
    router[method](path, async (ctx) => {
      const caller = await identifyCaller(ctx, accessControl)
      const asked = exchange(ctx, ctx.captures ?? [], { ...options, may: caller.may })
      await caller.authorize(accessOf(action, asked.name))
      await handle(asked)
    })
  }
  app.on('error', (error: object) => {
    // Koa tells of connections that broke, too, and without a listener it writes all of them to stderr.
    if (!('syscall' in error)) log.error({ err: error }, 'a request failed')
  })
  app.use(renderErrors(log))
  app.use(checkTarget)
  app.use(router.routes())
  app.use(async (ctx) => {
    await identifyCaller(ctx, accessControl)
    refuse(ctx)
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
function refuse(ctx: Context): never {
  const allowed = endpoints
    .filter((endpoint) => endpoint.path.test(ctx.path))
    // The router answers HEAD wherever there is a GET.
    .flatMap(({ method }) => (method === 'get' ? ['GET', 'HEAD'] : [method.toUpperCase()]))
  if (allowed.length === 0) throw new OciError('NOT_FOUND', { detail: { path: ctx.path.slice(0, 300) } })
  throw new OciError('UNSUPPORTED', {
    message: `${ctx.method} is not supported here`,
    headers: { Allow: [...new Set(allowed)].join(', ') },
  })
}
