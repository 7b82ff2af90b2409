import { systemClock } from '../clock.ts'
import type { AccessControl } from '../http/authorize.ts'
import type { CertificateStore } from '../http/certificate-store.ts'
import type { HttpServer } from '../http/server.ts'
import type { Settings, ValuesOf } from '../settings.ts'
import { bytes, duration, hostAndPort, text, yesOrNo } from '../settings-kinds.ts'
import type { Driver } from '../storage/driver.ts'
import type { Log } from '../telemetry/log.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import { accessSettings, checkAccessSettings, openAccessControl } from './access.ts'
import { bannerText, type BannerFacts } from './banner.ts'
import { defineCommand, type CommandContext } from './command.ts'
import {
  checkStorageSettings,
  describeStorage,
  openStorage,
  storageFailure,
  storageSettings,
} from './storage.ts'
import { openTelemetry, telemetrySettings, type Telemetry } from './telemetry.ts'
import { checkTlsSettings, openTlsCertificates, tlsSettings } from './tls.ts'

const serveSettings = {
  listen: {
    group: 'Server:',
    kind: hostAndPort,
    default: '127.0.0.1:5000',
    help: 'where clients connect; port 0 is any free one, an empty host every address',
  },
  manifestMaxBytes: {
    group: 'Server:',
    kind: bytes({ min: 1024, max: 16 * 2 ** 20 }),
    default: '4MiB',
    help: 'larger manifests are refused',
  },
  uploadExpiry: {
    group: 'Server:',
    kind: duration({ minMs: 1_000, maxMs: 90 * 86_400_000 }),
    default: '24h',
    help: 'an upload nobody goes on with is given up after so long',
  },
  acceptSparseImages: {
    group: 'Server:',
    kind: yesOrNo,
    default: 'false',
    help: 'take images without all their layers, too; an index may always lack some of its images',
  },
  claimOwner: {
    group: 'Server:',
    kind: text('<id>', /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,252}$/, 'letters, digits and . _ : / -, at most 253'),
    default: 'standalone',
    help: 'whose storage an empty one becomes: only its owner may collect garbage in it; replicas share one',
  },
  readOnly: {
    group: 'Server:',
    kind: yesOrNo,
    default: 'false',
    help: 'refuse pushes and deletes, and write nothing to the storage that reading does not need',
  },
  ...accessSettings,
  ...tlsSettings,
  ...telemetrySettings,
  ...storageSettings,
  s3Redirect: {
    group: storageSettings.s3Bucket.group,
    kind: yesOrNo,
    default: 'false',
    help: 'send clients to presigned URLs of the bucket for blobs; they must be able to reach the endpoint',
  },
} as const satisfies Settings

type ServeValues = ValuesOf<typeof serveSettings>

export const serveCommand = defineCommand({
  name: 'serve',
  summary: 'run the registry',
  description: 'Serves an OCI registry, until SIGTERM or SIGINT.',
  settings: serveSettings,
  *checkTogether(values, isGiven) {
    yield* checkStorageSettings(values, isGiven)
    yield* checkAccessSettings(values, isGiven)
    yield* checkTlsSettings(values, isGiven)
    if (isGiven('s3Redirect') && values.storage !== undefined && values.storage !== 's3') {
      yield { key: 's3Redirect', problem: `is for --storage s3, and the storage is ${values.storage}` }
    }
  },
  examples: [
    'stowage serve',
    'stowage serve --listen :5000 --htpasswd users --tls-cert tls.crt --tls-key tls.key',
    'stowage serve --listen :5000 --anonymous pull --htpasswd users --root /var/lib/stowage',
    'stowage serve --storage s3 --s3-bucket images --s3-region eu-central-1',
    'stowage serve --storage s3 --s3-bucket images --s3-endpoint http://127.0.0.1:9000 --s3-path-style',
    'STOWAGE_LOG_LEVEL=debug stowage serve --config stowage.yaml',
  ],
  run: serve,
})

/** Storage, registry, application, server; and back, the last first. */
async function serve(values: ServeValues, { version, stop, print }: CommandContext): Promise<number> {
  const { createLog } = await import('../telemetry/log.ts')
  const log = createLog({ level: values.logLevel })
  const opened = new AsyncDisposableStack()
  try {
    const telemetry = await openTelemetry(values, { log, version })
    opened.defer(() => telemetry.close())
    const certificates = await openTlsCertificates(values, log)
    opened.defer(() => certificates?.close())
    const accessControl = await openAccessControl(values, log)
    opened.defer(() => accessControl.close())
    const server = await startServer(values, { log, opened, telemetry, certificates, accessControl })
    const { policy } = accessControl
    print(banner(values, { version, port: server.port, certificates, policy }))
    if (telemetry.adminPort !== undefined) {
      log.info({ host: values.adminListen?.host, port: telemetry.adminPort }, 'the admin port is open')
    }
    if (!stop.aborted) await new Promise((resolve) => stop.addEventListener('abort', resolve, { once: true }))
    await stopServing(server, telemetry, { ...values, log })
    return 0
  } finally {
    await opened.disposeAsync()
  }
}

/** Nobody is to send new requests before they are refused, and what runs may end. */
async function stopServing(
  server: HttpServer,
  telemetry: Telemetry,
  { drainDelay, drainTimeout, log }: Pick<ServeValues, 'drainDelay' | 'drainTimeout'> & { readonly log: Log },
): Promise<void> {
  telemetry.drain()
  log.info({ drainDelayMs: drainDelay, drainTimeoutMs: drainTimeout }, 'stopping: running requests may end')
  await systemClock.sleep(drainDelay)
  const cut = await server.drain(drainTimeout)
  if (cut > 0) log.warn({ requests: cut }, 'stopped before all requests had ended')
}

interface Surroundings {
  readonly log: Log
  /** What is closed in the end, the last first. */
  readonly opened: AsyncDisposableStack
  readonly telemetry: Telemetry
  readonly certificates: CertificateStore | undefined
  readonly accessControl: AccessControl
}

async function startServer(values: ServeValues, surroundings: Surroundings): Promise<HttpServer> {
  const { log, telemetry, certificates, accessControl } = surroundings
  const registry = await openRegistryOn(values, surroundings).catch((error: unknown) => {
    log.debug({ err: error }, 'the storage could not be opened')
    throw storageFailure(values, error)
  })
  const { createApp } = await import('../http/app.ts')
  const { listenAsSet } = await import('./listen.ts')
  const { refusalLog } = await import('../http/access-log.ts')
  const told = {
    ...(values.accessLog && { log }),
    ...(telemetry.metrics && { metrics: telemetry.metrics.http }),
  }
  const app = createApp({
    registry,
    log,
    accessControl,
    redirect: values.s3Redirect,
    isReadOnly: values.readOnly,
    access: { clock: systemClock, ...told },
  })
  const server = await listenAsSet('listen', app.callback(), {
    ...values.listen,
    certificates,
    clock: systemClock,
    onRefused: refusalLog(told),
  })
  telemetry.watch(registry)
  return server
}

async function openRegistryOn(values: ServeValues, { log, opened, telemetry }: Surroundings) {
  const driver = await openStorage(values, log)
  opened.defer(() => driver.close?.())
  if (!values.readOnly) await probe(driver, values, log)
  const { openRegistry } = await import('../registry/registry.ts')
  const registry = await openRegistry({
    driver: telemetry.metrics ? await measured(driver, telemetry.metrics) : driver,
    clock: systemClock,
    log,
    claimOwner: values.claimOwner,
    manifestMaxBytes: values.manifestMaxBytes,
    uploadExpiryMs: values.uploadExpiry,
    acceptsSparseImages: values.acceptSparseImages,
    isReadOnly: values.readOnly,
    observer: telemetry.metrics?.content,
  })
  opened.defer(() => registry.close())
  return registry
}

async function probe(driver: Driver, values: ServeValues, log: Log): Promise<void> {
  const { probeStorage } = await import('../storage/probe.ts')
  const { faults } = await probeStorage(driver)
  for (const fault of faults) log.warn({ storage: describeStorage(values) }, fault)
}

async function measured(driver: Driver, { storage }: Metrics): Promise<Driver> {
  const { withMetrics } = await import('../storage/with-metrics.ts')
  return withMetrics(driver, { clock: systemClock, metrics: storage })
}

function banner(
  { listen, ...values }: ServeValues,
  facts: Pick<BannerFacts, 'version' | 'port' | 'policy'> & Pick<Surroundings, 'certificates'>,
): string {
  const { certificates, ...others } = facts
  const tls = certificates && { name: certificates.name }
  return bannerText({ ...others, host: listen.host, tls, storage: describeStorage(values) })
}
