import type { ServerResponse } from 'node:http'
import type { Health } from '../telemetry/health.ts'
import type { Log } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { Handle } from './server.ts'

export interface AdminOptions {
  readonly health: Health
  readonly metrics: Metrics
  readonly log: Log
}

interface Page {
  readonly status: number
  readonly contentType: string
  readonly body: string
}

/**
 * What a port apart answers, for the kubelet and for Prometheus: /healthz, whether the process is alive, which is so if
 * it answers at all; /readyz, whether it should get requests; /metrics. Nothing of it needs the storage.
 */
export function admin({ health, metrics, log }: AdminOptions): Handle {
  const pages: Readonly<Record<string, () => Page | Promise<Page>>> = {
    '/healthz': () => json(200, { status: 'alive' }),
    '/readyz': () => {
      const { isReady, ...why } = health.readiness()
      return json(isReady ? 200 : 503, { status: isReady ? 'ready' : 'not ready', ...why })
    },
    '/metrics': async () => ({
      status: 200,
      contentType: metrics.contentType,
      body: await metrics.render(),
    }),
  }
  return async ({ method, url = '' }, response) => {
    const [path = ''] = url.split('?', 1)
    const page = Object.hasOwn(pages, path) ? pages[path] : undefined
    if (!page) return send(response, json(404, { error: `there is ${Object.keys(pages).join(', ')}` }))
    if (method !== 'GET' && method !== 'HEAD') {
      response.setHeader('Allow', 'GET, HEAD')
      return send(response, json(405, { error: 'there is GET and HEAD' }))
    }
    try {
      send(response, await page())
    } catch (error) {
      log.error({ path, err: error }, 'a request to the admin port failed')
      send(response, json(500, { error: 'internal error; the log of the server says more' }))
    }
  }
}

function json(status: number, value: object): Page {
  return { status, contentType: 'application/json', body: `${JSON.stringify(value)}\n` }
}

/** Node leaves the body out where the request was a HEAD. */
function send(response: ServerResponse, { status, contentType, body }: Page): void {
  response.writeHead(status, {
    'Content-Type': contentType,
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
  })
  response.end(body)
}
