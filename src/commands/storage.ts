/** The settings of the storage, shared by every command that opens it, and the driver that they mean. */
import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { isNativeError } from 'node:util/types'
import type { CheckTogether, Conflict, Settings, ValuesOf } from '../settings.ts'
import { bytes, choice, httpUrl, text, yesOrNo } from '../settings-kinds.ts'
import type { Driver } from '../storage/driver.ts'
import type { S3Options } from '../storage/s3/options.ts'
import type { Log } from '../telemetry/log.ts'
import { CommandFailed } from './command.ts'

const mebibyte = 2 ** 20
const group = 'Storage:'
const s3Group = 'S3 (credentials come from the AWS default chain, never from settings):'

export const storageSettings = {
  storage: {
    group,
    kind: choice('<kind>', ['filesystem', 's3', 'memory']),
    default: 'filesystem',
    help: 'where images are kept: filesystem, s3, or memory (gone at the end)',
  },
  root: {
    group,
    kind: text('<dir>', /^[^\0]+$/, 'a directory'),
    default: './data',
    help: 'directory of the filesystem storage; made where there is none',
  },
  s3Bucket: {
    group: s3Group,
    kind: text(
      '<name>',
      /^([A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]|arn:[\w:/.-]+)$/,
      'the name of a bucket (3 to 255 letters, digits, dots, hyphens and underscores), or the ARN of an access point',
    ),
    help: 'bucket, needed with --storage s3',
  },
  s3Prefix: {
    group: s3Group,
    kind: text(
      '<path>',
      /^(?:(?!\.{1,2}(?:\/|$))[!-.0-~]+(?:\/(?!\.{1,2}(?:\/|$))[!-.0-~]+)*\/?)?$/,
      'a path inside the bucket without a leading slash, such as team/registry',
    ),
    default: '',
    help: 'everything is below this path of the bucket',
  },
  s3Region: {
    group: s3Group,
    kind: text('<region>', /^[A-Za-z0-9][A-Za-z0-9-]{0,62}$/, 'a region, such as eu-central-1'),
    help: 'region; default AWS_REGION or the AWS profile, us-east-1 with --s3-endpoint',
  },
  s3Endpoint: { group: s3Group, kind: httpUrl, help: 'another server than AWS that speaks S3' },
  s3PathStyle: {
    group: s3Group,
    kind: yesOrNo,
    default: 'false',
    help: 'bucket in the path of URLs, not in the host name; many servers other than AWS need it',
  },
  s3CaFile: {
    group: s3Group,
    kind: text('<file>', /^[^\0]+$/, 'a PEM file'),
    help: "certificates (PEM) to trust beside Node's own, for an endpoint with a private CA",
  },
  s3Sse: {
    group: s3Group,
    kind: choice('<algorithm>', ['AES256', 'aws:kms']),
    help: "server-side encryption asked for with every write; without it the bucket's own default",
  },
  s3SseKmsKeyId: {
    group: s3Group,
    kind: text('<id>', /^[\x21-\x7e]{1,2048}$/, 'the id, alias or ARN of a KMS key'),
    help: 'key for --s3-sse aws:kms',
  },
  s3PartBytes: {
    group: s3Group,
    kind: bytes({ min: 5 * mebibyte, max: 512 * mebibyte }),
    default: '8MiB',
    help: 'size of the parts of large uploads; grows by itself where 10,000 would not do',
  },
  uploadMemory: {
    group: s3Group,
    kind: bytes({ min: 5 * mebibyte, max: 2 ** 40 }),
    default: '128MiB',
    help: 'memory for the parts of all uploads together; further ones wait',
  },
} as const satisfies Settings

export type StorageValues = ValuesOf<typeof storageSettings>

/** Which settings belong to which storage, and which need others. */
export const checkStorageSettings: CheckTogether<typeof storageSettings> = function* (values, isGiven) {
  const { storage } = values
  yield* checkStorageKind(storage, isGiven)
  if (storage === 's3' && !isGiven('s3Bucket'))
    yield { key: 's3Bucket', problem: 'missing; --storage s3 needs it' }
  if (isGiven('s3SseKmsKeyId') && values.s3Sse !== 'aws:kms') {
    yield { key: 's3SseKmsKeyId', problem: 'needs --s3-sse aws:kms' }
  }
  const { s3PartBytes = 0, uploadMemory = Infinity } = values
  if (uploadMemory < s3PartBytes) yield { key: 'uploadMemory', problem: 'expected at least --s3-part-bytes' }
}

function* checkStorageKind(
  storage: StorageValues['storage'] | undefined,
  isGiven: (key: keyof StorageValues) => boolean,
): Iterable<Conflict<typeof storageSettings>> {
  if (storage === undefined) return
  for (const key of Object.keys(storageSettings) as (keyof StorageValues)[]) {
    const needed = key === 'root' ? 'filesystem' : 's3'
    if (key === 'storage' || storage === needed || !isGiven(key)) continue
    yield { key, problem: `is for --storage ${needed}, and the storage is ${storage}` }
  }
}

/**
 * The driver that the settings mean. Each storage's libraries are imported only where it is the one.
 * @param values with `readOnly`, nothing is made or tidied up where there are files
 * @throws CommandFailed
 */
export async function openStorage(
  values: StorageValues & { readonly readOnly?: boolean },
  log?: Log,
): Promise<Driver> {
  switch (values.storage) {
    case 'memory': {
      const { memoryDriver } = await import('../storage/memory.ts')
      return memoryDriver()
    }
    case 'filesystem': {
      const { filesystemDriver } = await import('../storage/filesystem.ts')
      return filesystemDriver({ root: values.root, isReadOnly: values.readOnly ?? false })
    }
    case 's3': {
      const { s3Driver } = await import('../storage/s3.ts')
      return s3Driver(await s3Options(values, log))
    }
  }
}

export async function s3Options(values: StorageValues, log?: Log): Promise<S3Options> {
  const { s3Bucket, s3Prefix, s3Region, s3Endpoint, s3Sse, s3SseKmsKeyId, s3CaFile } = values
  if (s3Bucket === undefined) throw new CommandFailed('--storage s3 needs --s3-bucket')
  return {
    bucket: s3Bucket,
    prefix: s3Prefix,
    pathStyle: values.s3PathStyle,
    partBytes: values.s3PartBytes,
    uploadMemoryBytes: values.uploadMemory,
    ...(log && { log }),
    ...(s3Region !== undefined && { region: s3Region }),
    ...(s3Endpoint !== undefined && { endpoint: s3Endpoint }),
    ...(s3Sse !== undefined && { sse: s3Sse }),
    ...(s3SseKmsKeyId !== undefined && { kmsKeyId: s3SseKmsKeyId }),
    ...(s3CaFile !== undefined && { ca: await readCertificates(s3CaFile) }),
  }
}

/** @throws CommandFailed */
export async function readCertificates(path: string): Promise<string> {
  const refuse = (problem: string, cause?: unknown) =>
    new CommandFailed(`--s3-ca-file ${path} ${problem}`, { cause })
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw refuse(`cannot be read: ${isNativeError(error) ? error.message : String(error)}`, error)
  })
  try {
    // Looks at the first one alone, which tells a key or another file from certificates.
    new X509Certificate(text)
  } catch (error) {
    throw refuse('holds no certificate in PEM', error)
  }
  return text
}

/** Which storage it is, in a few words for a person. */
export function describeStorage(values: StorageValues): string {
  switch (values.storage) {
    case 'memory':
      return 'memory'
    case 'filesystem':
      return `filesystem ${values.root}`
    case 's3': {
      const place = [values.s3Bucket, values.s3Prefix].filter(Boolean).join('/')
      return `s3 ${place}${values.s3Endpoint === undefined ? '' : ` at ${values.s3Endpoint}`}`
    }
  }
}

const fileProblems: Readonly<Record<string, string>> = {
  EACCES: 'this user may not write there',
  EPERM: 'this user may not write there',
  EROFS: 'it is mounted read-only',
  ENOSPC: 'the disk is full',
  ENOTDIR: 'a part of the path is not a directory',
  EEXIST: 'a part of the path is not a directory',
}

const regionProblem = 'no region is known: give --s3-region, or set AWS_REGION'

/** Why a command cannot work on its storage, in a sentence. */
export function storageFailure(values: StorageValues, error: unknown): CommandFailed {
  if (error instanceof CommandFailed) return error
  const root = values.storage === 'filesystem' ? deepestCause(error) : error
  const { code = '', message } = isNativeError(root)
    ? (root as NodeJS.ErrnoException)
    : { message: String(root) }
  const problem = fileProblems[code] ?? (/Region is missing/.test(message) ? regionProblem : undefined)
  const reason = problem ? `${problem} (${message})` : message
  return new CommandFailed(`the storage ${describeStorage(values)} cannot be used: ${reason}`, {
    cause: error,
  })
}

function deepestCause(error: unknown): unknown {
  return isNativeError(error) && isNativeError(error.cause) ? deepestCause(error.cause) : error
}
