/** The settings of what a server tells of itself, and what they mean: the log, the metrics, the admin port. */
import { systemClock } from '../clock.ts'
import type { Registry } from '../registry/registry.ts'
import type { Settings, ValuesOf } from '../settings.ts'
import { choice, duration, hostAndPort, yesOrNo } from '../settings-kinds.ts'
import { logLevels } from '../telemetry/log-levels.ts'
import type { Log } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'

const group = 'Running it:'

export const telemetrySettings = {
  logLevel: {
    group,
    kind: choice('<level>', logLevels),
    default: 'info',
    help: `least level that is logged (to stderr): ${logLevels.join(', ')}`,
  },
  accessLog: {
    group,
    kind: yesOrNo,
    default: 'true',
    help: 'log a line for every request: at level info, or error where the answer is a 5xx',
  },
  adminListen: {
    group,
    kind: hostAndPort,
    help: 'where /metrics, /healthz and /readyz are answered, to anybody and without TLS; default nowhere',
  },
  drainDelay: {
    group,
    kind: duration({ minMs: 0, maxMs: 3_600_000 }),
    default: '0s',
    help: 'how long all goes on at the end while /readyz says 503, so that load balancers can notice',
  },
  drainTimeout: {
    group,
    kind: duration({ minMs: 0, maxMs: 86_400_000 }),
    // Within the 30 s that Kubernetes gives a pod, with some to spare.
    default: '25s',
    help: 'how long running requests then have to end',
  },
} as const satisfies Settings

export interface Telemetry {
  /** Where there is no admin port nobody asks for them, and nothing is counted. */
  readonly metrics?: Metrics
  /** Where the admin port is. */
  readonly adminPort?: number
  /** Readiness follows this registry's storage from now on. */
  watch(registry: Registry): void
  /** Not ready from now on. */
  drain(): void
  close(): Promise<void>
}

/** @throws CommandFailed where it cannot listen */
export async function openTelemetry(
  { adminListen }: Pick<ValuesOf<typeof telemetrySettings>, 'adminListen'>,
  { log, version }: { readonly log: Log; readonly version: string },
): Promise<Telemetry> {
  if (adminListen === undefined) {
    return { watch: () => undefined, drain: () => undefined, close: () => Promise.resolve() }
  }
  const { createMetrics } = await import('../telemetry/metrics.ts')
  const { openHealth } = await import('../telemetry/health.ts')
  const { admin } = await import('../http/admin.ts')
  const { listenAsSet } = await import('./listen.ts')
  const metrics = createMetrics({ version })
  const health = openHealth({ clock: systemClock, log })
  const handle = admin({ health, metrics, log })
  const server = await listenAsSet('adminListen', handle, { ...adminListen, clock: systemClock })
  metrics.gauge('ready', 'Whether /readyz says that it is: 1 or 0.', () => Number(health.readiness().isReady))
  return {
    metrics,
    adminPort: server.port,
    watch(registry) {
      countRecords(registry, metrics)
      health.watch((signal) => registry.checkStorage(signal))
    },
    drain: () => health.drain(),
    async close() {
      health.close()
      await server.drain(0)
    },
  }
}

function countRecords(registry: Registry, metrics: Metrics): void {
  metrics.gauge(
    'collection_generation',
    'The last collection run of which this server knows that it has ended; 0: none yet.',
    () => registry.collectionRecords().generation,
  )
  metrics.gauge(
    'collection_records_age_seconds',
    'How long ago this server last read what collections have announced.',
    () => registry.collectionRecords().ageMs / 1000,
  )
}
