import { isNativeError } from 'node:util/types'
import { systemClock } from '../clock.ts'
import type { AccessControl } from '../http/authorize.ts'
import type { CertificateStore } from '../http/certificate-store.ts'
import type { HttpServer } from '../http/server.ts'
import type { Settings, ValuesOf } from '../settings.ts'
import { bytes, choice, duration, hostAndPort, text, yesOrNo } from '../settings-kinds.ts'
import { logLevels } from '../telemetry/log-levels.ts'
import type { Log } from '../telemetry/log.ts'
import { accessSettings, checkAccessSettings, openAccessControl } from './access.ts'
import { bannerText, type BannerFacts } from './banner.ts'
import { CommandFailed, defineCommand, type CommandContext } from './command.ts'
import {
  checkStorageSettings,
  describeStorage,
  openStorage,
  storageFailure,
  storageSettings,
} from './storage.ts'
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
  logLevel: {
    group: 'Server:',
    kind: choice('<level>', logLevels),
    default: 'info',
    help: `least level that is logged (to stderr): ${logLevels.join(', ')}`,
  },
  ...accessSettings,
  ...tlsSettings,
  ...storageSettings,
  s3Redirect: {
    group: storageSettings.s3Bucket.group,
    kind: yesOrNo,
    default: 'false',
    help: 'send clients to presigned URLs of the bucket for blobs; they must be able to reach the endpoint',
  },
} as const satisfies Settings

type ServeValues = ValuesOf<typeof serveSettings>

/** How long running requests have at the end: within the 30 s that Kubernetes gives a pod, with some to spare. */
const drainMs = 25_000

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
    const certificates = await openTlsCertificates(values, log)
    opened.defer(() => certificates?.close())
    const accessControl = await openAccessControl(values, log)
    opened.defer(() => accessControl.close())
    const server = await startServer(values, { log, opened, certificates, accessControl })
    const { policy } = accessControl
    print(banner(values, { version, port: server.port, certificates, policy }))
    if (!stop.aborted) await new Promise((resolve) => stop.addEventListener('abort', resolve, { once: true }))
    log.info({}, 'stopping: running requests may end')
    const cut = await server.drain(drainMs)
    if (cut > 0) log.warn({ requests: cut, drainMs }, 'stopped before all requests had ended')
    return 0
  } finally {
    await opened.disposeAsync()
  }
}

interface Surroundings {
  readonly log: Log
  /** What is closed in the end, the last first. */
  readonly opened: AsyncDisposableStack
  readonly certificates: CertificateStore | undefined
  readonly accessControl: AccessControl
}

async function startServer(
  values: ServeValues,
  { log, opened, certificates, accessControl }: Surroundings,
): Promise<HttpServer> {
  const registry = await openRegistryOn(values, log, opened).catch((error: unknown) => {
    log.debug({ err: error }, 'the storage could not be opened')
    throw storageFailure(values, error)
  })
  const { createApp } = await import('../http/app.ts')
  const { listen } = await import('../http/server.ts')
  const app = createApp({ registry, log, accessControl, redirect: values.s3Redirect })
  const { host, port } = values.listen
  try {
    return await listen(app.callback(), { host, port, certificates, clock: systemClock })
  } catch (error) {
    throw new CommandFailed(`cannot listen on ${host}:${port}: ${listenProblem(error)}`, { cause: error })
  }
}

async function openRegistryOn(values: ServeValues, log: Log, opened: AsyncDisposableStack) {
  const driver = await openStorage(values, log)
  opened.defer(() => driver.close?.())
  const { probeStorage } = await import('../storage/probe.ts')
  const { faults } = await probeStorage(driver)
  for (const fault of faults) log.warn({ storage: describeStorage(values) }, fault)
  const { openRegistry } = await import('../registry/registry.ts')
  const registry = await openRegistry({
    driver,
    clock: systemClock,
    log,
    claimOwner: values.claimOwner,
    manifestMaxBytes: values.manifestMaxBytes,
    uploadExpiryMs: values.uploadExpiry,
    acceptsSparseImages: values.acceptSparseImages,
  })
  opened.defer(() => registry.close())
  return registry
}

const listenProblems: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process listens there; end it, or choose another port by --listen',
  EACCES: 'this user may not; choose a port above 1023 by --listen',
  EADDRNOTAVAIL: 'this machine has no such address',
  ENOTFOUND: 'the host name is unknown',
}

function listenProblem(error: unknown): string {
  if (!isNativeError(error)) return String(error)
  return ('code' in error && listenProblems[String(error.code)]) || error.message
}

function banner(
  { listen, ...values }: ServeValues,
  facts: Pick<BannerFacts, 'version' | 'port' | 'policy'> & Pick<Surroundings, 'certificates'>,
): string {
  const { certificates, ...others } = facts
  const tls = certificates && { name: certificates.name }
  return bannerText({ ...others, host: listen.host, tls, storage: describeStorage(values) })
}
