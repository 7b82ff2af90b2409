/** A whole registry in this process, on a driver and a free port, and the few requests that most tests begin with. */
import { afterEach, expect } from '@jest/globals'
import { once } from 'node:events'
import {
  Agent,
  request,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type OutgoingHttpHeaders,
} from 'node:http'
import { buffer } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { systemClock, type Clock } from '../../src/clock.ts'
import { createApp, type AppOptions } from '../../src/http/app.ts'
import { withoutUsers, type AccessControl } from '../../src/http/authorize.ts'
import { listen, type ListenOptions } from '../../src/http/server.ts'
import { digestOf, type Algorithm, type Digest } from '../../src/oci/digest.ts'
import { mediaTypes } from '../../src/oci/media-types.ts'
import { openRegistry, type Registry, type RegistryOptions } from '../../src/registry/registry.ts'
import type { Driver } from '../../src/storage/driver.ts'
import { memoryDriver } from '../../src/storage/memory.ts'
import { createLog } from '../../src/telemetry/log.ts'

export interface TestRegistryOptions {
  /** Default: memory of its own. */
  readonly driver?: Driver
  /** Of the registry; the server has the machine's. */
  readonly clock?: Clock
  readonly registry?: Partial<RegistryOptions>
  readonly server?: Partial<ListenOptions>
  readonly app?: Partial<AppOptions>
  readonly redirect?: boolean
  /** Default: anybody may everything. */
  readonly accessControl?: AccessControl
  /** Whether errors in its log are what the test is about. Else a test fails by one: nothing here may be a 500. */
  readonly mayFail?: boolean
}

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
}

export interface RequestOptions {
  readonly headers?: OutgoingHttpHeaders
  /** Bytes go with their Content-Length, anything else in chunks. */
  readonly body?: string | Uint8Array | AsyncIterable<Uint8Array>
}

/** `method path`, such as `GET /v2/`. */
export type Send = (target: string, options?: RequestOptions) => Promise<Answer>

export interface TestRegistry extends AsyncDisposable {
  readonly port: number
  readonly driver: Driver
  readonly registry: Registry
  readonly send: Send
  /** What was logged so far, from `debug` on: the lines as they were written, each with its newline. */
  readonly lines: readonly string[]
}

/** The logs that may have no errors, and how many lines of each were looked at. */
const mustNotFail = new Map<readonly string[], number>()

afterEach(() => {
  const failures: string[] = []
  for (const [lines, checked] of mustNotFail) {
    failures.push(...lines.slice(checked).filter((line) => line.includes('"level":"error"')))
    mustNotFail.set(lines, lines.length)
  }
  expect(failures).toEqual([])
})

/** Close it with `await using`. */
export async function openTestRegistry(options: TestRegistryOptions = {}): Promise<TestRegistry> {
  const { driver = memoryDriver(), clock = systemClock, redirect = false, mayFail = false } = options
  const { accessControl = withoutUsers('full') } = options
  const lines: string[] = []
  const destination = { write: (line: string) => lines.push(line) }
  const log = createLog({ level: 'debug', format: 'json', destination })
  const registry = await openRegistry({
    driver,
    clock,
    log,
    claimOwner: 'test',
    manifestMaxBytes: 4 * 2 ** 20,
    uploadExpiryMs: 86_400_000,
    ...options.registry,
  })
  const app = createApp({ registry, log, redirect, accessControl, ...options.app })
  const where = { host: '127.0.0.1', port: 0, clock: systemClock }
  const server = await listen(app.callback(), { ...where, ...options.server })
  // Where idle connections are closed soon, one that is used again may be closed just then.
  const agent = new Agent({ keepAlive: options.server?.idleMs === undefined })
  if (!mayFail) mustNotFail.set(lines, 0)
  return {
    port: server.port,
    driver,
    registry,
    send: sendTo(server.port, agent),
    lines,
    async [Symbol.asyncDispose]() {
      agent.destroy()
      await server.drain(0)
      registry.close()
    },
  }
}

function sendTo(port: number, agent: Agent): Send {
  return async (target, { headers = {}, body } = {}) => {
    const [method = '', path = ''] = target.split(/ (.*)/s)
    const outgoing = request({
      host: '127.0.0.1',
      port,
      agent,
      method,
      path,
      headers: { ...lengthOf(body), ...headers },
    })
    const answered = once(outgoing, 'response') as Promise<[IncomingMessage]>
    // A server that answers early may close while we still write.
    answered.then(() => outgoing.on('error', () => undefined)).catch(() => undefined)
    if (body !== undefined && typeof body !== 'string' && !(body instanceof Uint8Array)) {
      for await (const chunk of body) outgoing.write(chunk)
      outgoing.end()
    } else outgoing.end(body)
    const [incoming] = await answered
    return { status: incoming.statusCode ?? 0, headers: incoming.headers, body: await buffer(incoming) }
  }
}

function lengthOf(body: RequestOptions['body']): OutgoingHttpHeaders {
  if (body === undefined) return {}
  const isWhole = typeof body === 'string' || body instanceof Uint8Array
  return isWhole ? { 'Content-Length': Buffer.byteLength(body) } : { 'Transfer-Encoding': 'chunked' }
}

export function jsonOf<T = unknown>({ body }: Answer): T {
  return JSON.parse(body.toString()) as T
}

/** `<status> <code>` of an answer that has the specification's form of an error; else what is wrong with it. */
export function errorOf({ status, headers, body }: Answer): string {
  if (headers['content-type'] !== 'application/json')
    return `${status}, but Content-Type is ${headers['content-type']}`
  const { errors } = JSON.parse(body.toString()) as { errors?: { code?: unknown; message?: unknown }[] }
  const [error, ...more] = errors ?? []
  if (typeof error?.code !== 'string' || typeof error.message !== 'string' || more.length > 0) {
    return `${status}, but the body is ${body.toString()}`
  }
  return `${status} ${error.code}`
}

/** A blob in a single POST. */
export async function pushBlob(
  { send }: Pick<TestRegistry, 'send'>,
  name: string,
  content: string | Buffer,
  algorithm: Algorithm = 'sha256',
): Promise<Digest> {
  const bytes = Buffer.from(content)
  const digest = digestOf(bytes, algorithm)
  const answer = await send(`POST /v2/${name}/blobs/uploads/?digest=${digest}`, { body: bytes })
  if (answer.status !== 201) throw new Error(`${answer.status} ${answer.body.toString()}`)
  return digest
}

/** The path of a new upload. */
export async function startUpload({ send }: Pick<TestRegistry, 'send'>, name: string): Promise<string> {
  const { status, headers } = await send(`POST /v2/${name}/blobs/uploads/`)
  if (status !== 202 || headers.location === undefined) throw new Error(`an upload cannot begin: ${status}`)
  return headers.location
}

export function descriptorOf(content: string | Buffer, mediaType: string, algorithm: Algorithm = 'sha256') {
  const bytes = Buffer.from(content)
  return { mediaType, digest: digestOf(bytes, algorithm), size: bytes.length }
}

export const configType = 'application/vnd.oci.image.config.v1+json'
export const layerType = 'application/vnd.oci.image.layer.v1.tar+gzip'

/** An image manifest; its blobs are the config `{}` and the layers. */
export function imageOf(layers: readonly string[], more: object = {}) {
  return {
    schemaVersion: 2,
    mediaType: mediaTypes.imageManifest as string,
    config: descriptorOf('{}', configType),
    layers: layers.map((layer) => descriptorOf(layer, layerType)),
    ...more,
  }
}

export function indexOf(manifests: readonly object[], more: object = {}) {
  return { schemaVersion: 2, mediaType: mediaTypes.imageIndex as string, manifests, ...more }
}

/** Puts a document, as it is or as JSON, under the media type that it says it has. */
export async function putManifest(
  { send }: Pick<TestRegistry, 'send'>,
  name: string,
  reference: string,
  manifest: object | Buffer,
): Promise<Answer> {
  const body = bytesOf(manifest)
  const mediaType = 'mediaType' in manifest ? manifest.mediaType : undefined
  const headers = typeof mediaType === 'string' ? { 'Content-Type': mediaType } : {}
  return send(`PUT /v2/${name}/manifests/${reference}`, { headers, body })
}

export function bytesOf(manifest: object | Buffer): Buffer {
  return Buffer.isBuffer(manifest) ? manifest : Buffer.from(JSON.stringify(manifest))
}

/** An image with its blobs; its digest. */
export async function pushImage(
  at: Pick<TestRegistry, 'send'>,
  name: string,
  reference: string,
  {
    layers = ['layer'],
    ...more
  }: { readonly layers?: readonly string[]; readonly [field: string]: unknown } = {},
): Promise<Digest> {
  for (const blob of ['{}', ...layers]) await pushBlob(at, name, blob)
  const manifest = imageOf(layers, more)
  const answer = await putManifest(at, name, reference, manifest)
  if (answer.status !== 201) throw new Error(`${answer.status} ${answer.body.toString()}`)
  return digestOf(bytesOf(manifest))
}

export async function keysOf(driver: Driver, prefix = ''): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of driver.list(prefix)) keys.push(key)
  return keys
}

/** Waits until it holds; for what happens after a client has gone. */
export async function until(condition: () => boolean | Promise<boolean>, withinMs = 5_000): Promise<void> {
  const end = performance.now() + withinMs
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not so within ${withinMs} ms: ${condition.toString()}`)
    await delay(5)
  }
}
