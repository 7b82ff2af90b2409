import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'

/** One request that was answered, or whose connection ended before. Every string is one of a few. */
export interface EndedRequest {
  readonly method: string
  /** The specification's number of the endpoint. */
  readonly route: string
  readonly status: number
  readonly seconds: number
  /** Of the bodies. */
  readonly bytesIn: number
  readonly bytesOut: number
  /** Whether the client did not get the whole answer. */
  readonly isCut: boolean
}

export interface HttpMetrics {
  requestBegan(): void
  requestEnded(request: EndedRequest): void
  /** @param reason one of a few */
  requestRefused(reason: string): void
}

export type StorageOutcome = 'ok' | 'refused' | 'unavailable' | 'aborted' | 'error'

export interface StorageMetrics {
  /** @param seconds left out where the time says nothing of the storage */
  operationEnded(verb: string, outcome: StorageOutcome, seconds?: number): void
  uploadBegan(): void
  uploadEnded(): void
}

export interface ContentMetrics {
  manifestLookedUp(isCached: boolean): void
  contentDamaged(kind: 'manifest' | 'blob'): void
}

/** What a server counts of itself, for Prometheus. docs/OBSERVABILITY.md has the table of names and units. */
export interface Metrics {
  readonly http: HttpMetrics
  readonly storage: StorageMetrics
  readonly content: ContentMetrics
  /** A value that is asked for at every scrape; NaN where there is none. The name gets the prefix of the others. */
  gauge(name: string, help: string, read: () => number): void
  readonly contentType: string
  render(): Promise<string>
}

/** From a manifest out of memory to a layer of many GiB over a slow line, in seconds. */
const requestBuckets = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300, 1800]
const storageBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60]

/** Everything in a registry of its own: two servers in one process do not share their counts. */
export function createMetrics({ version }: { readonly version: string }): Metrics {
  const registry = new Registry()
  // Process, heap, collections of garbage in it, and the delay of the event loop.
  collectDefaultMetrics({ register: registry })
  const build = {
    ...named(registry, 'build_info', 'Always 1; its label is the version.'),
    labelNames: ['version'],
  }
  new Gauge(build).set({ version }, 1)
  return {
    http: httpMetrics(registry),
    storage: storageMetrics(registry),
    content: contentMetrics(registry),
    gauge(name, help, read) {
      new Gauge({
        ...named(registry, name, help),
        collect() {
          this.set(read())
        },
      })
    },
    contentType: registry.contentType,
    render: () => registry.metrics(),
  }
}

function named(registry: Registry, name: string, help: string) {
  return { name: `stowage_${name}`, help, registers: [registry] }
}

function httpMetrics(registry: Registry): HttpMetrics {
  const labelNames = ['method', 'route'] as const
  const requests = new Counter({
    ...named(registry, 'http_requests_total', 'Requests that have ended, by endpoint and status.'),
    labelNames: [...labelNames, 'status'],
  })
  const seconds = new Histogram({
    ...named(
      registry,
      'http_request_duration_seconds',
      'From the head of a request to the end of its answer.',
    ),
    labelNames,
    buckets: requestBuckets,
  })
  const bytesIn = new Counter({
    ...named(registry, 'http_received_bytes_total', 'Bytes of request bodies that were read.'),
    labelNames,
  })
  const bytesOut = new Counter({
    ...named(registry, 'http_sent_bytes_total', 'Bytes of response bodies.'),
    labelNames,
  })
  const cut = new Counter({
    ...named(registry, 'http_cut_responses_total', 'Requests whose client did not get the whole answer.'),
    labelNames,
  })
  const refused = new Counter({
    ...named(
      registry,
      'http_refused_requests_total',
      'Requests refused before they were one, by the reason.',
    ),
    labelNames: ['reason'] as const,
  })
  const running = new Gauge(
    named(registry, 'http_requests_in_flight', 'Requests that are being answered right now.'),
  )
  return {
    requestBegan: () => running.inc(),
    requestEnded({ method, route, status, ...request }) {
      const labels = { method, route }
      running.dec()
      requests.inc({ method, route, status })
      seconds.observe(labels, request.seconds)
      if (request.bytesIn > 0) bytesIn.inc(labels, request.bytesIn)
      if (request.bytesOut > 0) bytesOut.inc(labels, request.bytesOut)
      if (request.isCut) cut.inc(labels)
    },
    requestRefused: (reason) => refused.inc({ reason }),
  }
}

function storageMetrics(registry: Registry): StorageMetrics {
  const operations = new Counter({
    ...named(registry, 'storage_operations_total', 'Operations on the storage, by verb and outcome.'),
    labelNames: ['verb', 'outcome'] as const,
  })
  const seconds = new Histogram({
    ...named(
      registry,
      'storage_operation_duration_seconds',
      'How long the storage took to answer, or to give the first of a listing or a stream.',
    ),
    labelNames: ['verb'] as const,
    buckets: storageBuckets,
  })
  const uploads = new Gauge(
    named(registry, 'uploads_in_flight', 'Bodies that are on their way into the storage right now.'),
  )
  return {
    operationEnded(verb, outcome, took) {
      operations.inc({ verb, outcome })
      if (took !== undefined) seconds.observe({ verb }, took)
    },
    uploadBegan: () => uploads.inc(),
    uploadEnded: () => uploads.dec(),
  }
}

function contentMetrics(registry: Registry): ContentMetrics {
  const lookups = new Counter({
    ...named(
      registry,
      'manifest_cache_lookups_total',
      'Manifests looked up by digest, by whether memory had them.',
    ),
    labelNames: ['result'] as const,
  })
  const damaged = new Counter({
    ...named(
      registry,
      'damaged_content_total',
      'Stored content that did not match its digest when it was read.',
    ),
    labelNames: ['kind'] as const,
  })
  for (const result of ['hit', 'miss']) lookups.inc({ result }, 0)
  for (const kind of ['manifest', 'blob']) damaged.inc({ kind }, 0)
  return {
    manifestLookedUp: (isCached) => lookups.inc({ result: isCached ? 'hit' : 'miss' }),
    contentDamaged: (kind) => damaged.inc({ kind }),
  }
}
