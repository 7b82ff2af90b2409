/** One bucket, and how a request to it is made: signed, timed, repeated, and its failure put into our words. */
import {
  S3Client,
  type S3ClientConfig,
  type ServiceInputTypes,
  type ServiceOutputTypes,
} from '@aws-sdk/client-s3'
import { hash } from 'node:crypto'
import { getCACertificates } from 'node:tls'
import { systemClock, type Clock } from '../../clock.ts'
import { byteBudget, type ByteBudget } from '../buffers.ts'
import type { CallOptions, RemoveLease } from '../driver.ts'
import { faultOf, isConflict, isRefusal, isTransient, translate, type Fault } from './errors.ts'
import { defaults, type PartSizes, type S3Options } from './options.ts'
import { headerSignatureMs, signWithLease, type S3Command } from './signing.ts'

export interface SendOptions extends CallOptions {
  /** The key of the driver that the request is about. */
  readonly key: string
  readonly lease?: RemoveLease
  /** How the lease is signed; default: in the headers, if it lasts as long as such a signature. */
  readonly signature?: 'headers' | 'query'
  /** Bytes that move with the request, which allow it more time. */
  readonly bytes?: number
  /** The storage works on it before it answers: copies, completions. */
  readonly isSlow?: boolean
  /** An attempt that was not answered is not made again: the error says so. */
  readonly onlyAnswered?: boolean
  /** Failures that the caller handles: they are thrown as they are, and the caller translates the others. */
  readonly expects?: (fault: Fault) => boolean
}

export interface Answer<O> {
  readonly output: O
  /** The storage's own clock when it answered, in ms. */
  readonly date: number
}

/** A failure that SendOptions.expects named. */
export class Expected extends Error {
  readonly fault: Fault
  constructor(fault: Fault, options: ErrorOptions) {
    super(fault.message, options)
    this.fault = fault
  }
}

export interface Bucket {
  readonly client: S3Client
  readonly name: string
  readonly clock: Clock
  readonly memory: ByteBudget
  readonly sizes: PartSizes
  readonly concurrency: number
  /** What is written with these fields is encrypted as the options say. */
  readonly encryption: Pick<S3Encryption, 'ServerSideEncryption' | 'SSEKMSKeyId'>
  /** The key in the bucket of a key of the driver, or of the beginning of one. */
  full(key: string): string
  /** The key of the driver of a key in the bucket. */
  short(full: string): string
  send<I extends ServiceInputTypes, O extends ServiceOutputTypes>(
    command: () => S3Command<I, O>,
    options: SendOptions,
  ): Promise<Answer<O>>
  /** Waits before the attempt that follows `attempt` (from 0 on). */
  backOff(attempt: number, signal?: AbortSignal): Promise<void>
  readonly attempts: number
  close(): void
}

interface S3Encryption {
  readonly ServerSideEncryption?: 'AES256' | 'aws:kms'
  readonly SSEKMSKeyId?: string
}

/** A slow link: below this rate a request runs into its deadline. */
const slowestBytesPerMs = 100
const slowCommandMs = 5 * 60_000

export function openBucket(config: S3Options): Bucket {
  const { bucket: name, clock = systemClock, attempts = defaults.attempts } = config
  const prefix = folderOf(config.prefix)
  const partBytes = config.partBytes ?? defaults.partBytes
  const memory = config.uploadMemory ?? byteBudget(config.uploadMemoryBytes ?? defaults.uploadMemoryBytes)
  const clientOptions = clientConfig(config)
  const client = new S3Client({ ...clientOptions, maxAttempts: attempts })
  // Its requests are repeated here, or not at all: see onlyAnswered.
  const single = new S3Client({ ...clientOptions, maxAttempts: 1, credentials: client.config.credentials })
  for (const each of [client, single]) hashPayloads(each)
  const dates = readDates([client, single])
  const backOff = (attempt: number, signal?: AbortSignal) => {
    const mostMs = Math.min((config.retryDelayMs ?? defaults.retryDelayMs) * 2 ** attempt, 5_000)
    return clock.sleep(Math.random() * mostMs, signal)
  }

  async function attempt<I extends ServiceInputTypes, O extends ServiceOutputTypes>(
    build: () => S3Command<I, O>,
    options: SendOptions,
    timeout: { readonly signal: AbortSignal; readonly deadlineMs: number },
  ): Promise<O> {
    const by = options.onlyAnswered ? single : client
    for (let made = 1; ; made++) {
      const command = build()
      const { lease } = options
      if (lease) signWithLease(by, command, lease, options.signature ?? signatureFor(lease))
      try {
        return await by.send(command, { abortSignal: timeout.signal, requestTimeout: timeout.deadlineMs / 2 })
      } catch (error) {
        const fault = faultOf(error)
        if (made >= attempts || !mayRepeat(fault, options)) throw error
        await backOff(made - 1, timeout.signal)
      }
    }
  }

  const failure = (error: unknown, options: SendOptions): Error => {
    const { key, lease, expects } = options
    const fault = faultOf(error)
    if (expects?.(fault)) return new Expected(fault, { cause: error })
    return translate(error, { target: `${name}/${prefix}${key}`, key, ...(lease && { lease }) })
  }
  const send: Bucket['send'] = async (build, options) => {
    options.signal?.throwIfAborted()
    const deadlineMs = deadlineOf(config, options)
    const deadline = startDeadline(deadlineMs, options.signal)
    try {
      const output = await attempt(build, options, { signal: deadline.signal, deadlineMs })
      return { output, date: dates.dateOf(output) }
    } catch (error) {
      options.signal?.throwIfAborted()
      throw failure(deadline.isOver() ? deadlineError(deadlineMs, error) : error, options)
    } finally {
      deadline.stop()
    }
  }

  return {
    client,
    name,
    clock,
    memory,
    sizes: { partBytes, largestBytes: Math.max(partBytes, Math.floor(memory.maxBytes / 4)) },
    concurrency: config.concurrency ?? defaults.concurrency,
    encryption: {
      ...(config.sse && { ServerSideEncryption: config.sse }),
      ...(config.kmsKeyId && { SSEKMSKeyId: config.kmsKeyId }),
    },
    full: (key) => prefix + key,
    short: (full) => full.slice(prefix.length),
    send,
    backOff,
    attempts,
    close() {
      client.destroy()
      single.destroy()
    },
  }
}

function clientConfig(options: S3Options): S3ClientConfig {
  const { endpoint, pathStyle, log } = options
  const ignore = () => {}
  const tell = (...words: unknown[]) => log?.warn({}, words.map(String).join(' '))
  const region =
    options.region ?? (endpoint === undefined ? undefined : process.env['AWS_REGION'] || 'us-east-1')
  // Slow clients hold the connections that they are served from: the bound is there for bugs, not for fairness.
  const agent = { maxSockets: 1024, keepAlive: true }
  return {
    ...(region !== undefined && { region }),
    ...(endpoint !== undefined && { endpoint }),
    forcePathStyle: pathStyle ?? false,
    retryMode: 'standard',
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // With it the SDK opens a connection for every body that it sends.
    expectContinueHeader: false,
    requestHandler: {
      connectionTimeout: 5_000,
      throwOnRequestTimeout: true,
      logger: { debug: ignore, info: ignore, warn: tell, error: tell },
      httpAgent: agent,
      httpsAgent: { ...agent, ...trusted(options) },
    },
  }
}

/** For a TLS agent: the authorities of the options beside the usual ones. */
export function trusted({ ca }: S3Options): { readonly ca?: string[] } {
  return ca === undefined ? {} : { ca: [...getCACertificates('default'), ca] }
}

function deadlineOf(
  { deadlineMs = defaults.deadlineMs }: S3Options,
  { bytes = 0, isSlow = false }: SendOptions,
) {
  return (isSlow ? Math.max(slowCommandMs, deadlineMs) : deadlineMs) + bytes / slowestBytesPerMs
}

/** Whether to ask again what the SDK has given up, or was not to repeat. */
function mayRepeat(fault: Fault, { onlyAnswered = false }: SendOptions): boolean {
  if (isConflict(fault)) return true
  return onlyAnswered && ((isTransient(fault) && isRefusal(fault)) || fault.isSkewCorrected)
}

const folderOf = (prefix = '') => (prefix === '' || prefix.endsWith('/') ? prefix : `${prefix}/`)

const signatureFor = ({ durationMs }: RemoveLease) => (durationMs === headerSignatureMs ? 'headers' : 'query')

const offThreadBytes = 256 * 1024

/**
 * Puts the SHA-256 of each body into its signature, once for all attempts, so that every server checks the bytes,
 * also those that ignore x-amz-checksum-sha256. A large one is hashed beside the main thread.
 */
function hashPayloads(client: S3Client): void {
  client.middlewareStack.add(
    (next) => async (args) => {
      const { request } = args
      if (isSendable(request) && request.body instanceof Uint8Array) {
        request.headers['x-amz-content-sha256'] ??= await sha256Hex(request.headers, request.body)
      }
      return next(args)
    },
    { step: 'build', name: 'hashPayload', priority: 'low' },
  )
}

async function sha256Hex(headers: Readonly<Record<string, string>>, body: Uint8Array): Promise<string> {
  const known = headers['x-amz-checksum-sha256']
  if (known !== undefined) return Buffer.from(known, 'base64').toString('hex')
  if (body.length < offThreadBytes) return hash('sha256', body, 'hex')
  return (await sha256(body)).toString('hex')
}

export async function sha256(bytes: Uint8Array): Promise<Buffer> {
  if (bytes.length < offThreadBytes) return hash('sha256', bytes, 'buffer')
  return Buffer.from(await crypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>))
}

/** Keeps the Date header of the answer that each output was read from. */
function readDates(clients: readonly S3Client[]) {
  const dates = new WeakMap<object, number>()
  for (const client of clients) {
    client.middlewareStack.add(
      (next) => async (args) => {
        const result = await next(args)
        const { response, output } = result
        if (output && isAnswer(response)) dates.set(output, Date.parse(response.headers['date'] ?? ''))
        return result
      },
      { step: 'deserialize', name: 'readDate', priority: 'high' },
    )
  }
  return {
    dateOf(output: object): number {
      const date = dates.get(output)
      if (date === undefined || Number.isNaN(date))
        throw new Error('the storage answers without a Date header')
      return date
    },
  }
}

function startDeadline(ms: number, outer: AbortSignal | undefined) {
  const controller = new AbortController()
  let isOver = false
  const timer = setTimeout(() => {
    isOver = true
    controller.abort()
  }, ms)
  const leave = () => {
    controller.abort(outer?.reason)
  }
  outer?.addEventListener('abort', leave, { once: true })
  return {
    signal: controller.signal,
    isOver: () => isOver,
    stop() {
      clearTimeout(timer)
      outer?.removeEventListener('abort', leave)
    },
  }
}

const deadlineError = (ms: number, cause: unknown) =>
  Object.assign(new Error(`no answer within ${ms} ms`, { cause }), { code: 'ETIMEDOUT' })

interface Sendable {
  readonly headers: Record<string, string>
  readonly body?: unknown
}

const isSendable = (value: unknown): value is Sendable =>
  typeof value === 'object' && value !== null && 'headers' in value

const isAnswer = (value: unknown): value is { readonly headers: Readonly<Record<string, string>> } =>
  typeof value === 'object' && value !== null && 'headers' in value
