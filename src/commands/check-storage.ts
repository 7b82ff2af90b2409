import { randomUUID } from 'node:crypto'
import { rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { isNativeError } from 'node:util/types'
import type { Settings, ValuesOf } from '../settings.ts'
import { choice } from '../settings-kinds.ts'
import type { Driver, UploadHandle } from '../storage/driver.ts'
import type { CaseResult } from './check-report.ts'
import { CommandFailed, defineCommand, type CommandContext } from './command.ts'
import {
  checkStorageSettings,
  describeStorage,
  openStorage,
  readCertificates,
  s3Options,
  storageFailure,
  storageSettings,
  type StorageValues,
} from './storage.ts'

const settings = {
  ...storageSettings,
  output: {
    group: 'Output:',
    kind: choice('<format>', ['text', 'json']),
    default: 'text',
    help: 'text for a person as it goes, or json at the end',
  },
} as const satisfies Settings

export const checkStorageCommand = defineCommand({
  name: 'check-storage',
  summary: 'try out whether a bucket or directory does what the registry relies on',
  description:
    'Tries out, in a new folder of the storage that is removed at the end, everything that the registry relies on,\n' +
    'and says what the storage does not honour. Exit code 0: all holds; 1: something does not, or the storage cannot\n' +
    'be reached. A storage that is in use may be checked.',
  settings,
  checkTogether: checkStorageSettings,
  examples: [
    'stowage check-storage --root /var/lib/stowage',
    'stowage check-storage --storage s3 --s3-bucket images --s3-region eu-central-1',
    'stowage check-storage --storage s3 --s3-bucket images --s3-endpoint http://127.0.0.1:9000 --s3-path-style --output json',
  ],
  run: checkStorage,
})

async function checkStorage(
  values: ValuesOf<typeof settings>,
  { stop, print }: CommandContext,
): Promise<number> {
  const { reportAsJson, reportAsText } = await import('./check-report.ts')
  const report = values.output === 'json' ? reportAsJson(print) : reportAsText(print)
  const opened = new AsyncDisposableStack()
  try {
    const folder = await openFolder(values, opened).catch((error: unknown) => {
      throw storageFailure(values, error)
    })
    const { contractCases, runContractCase } = await import('../storage/verify-driver.ts')
    const results: CaseResult[] = []
    for (const contractCase of contractCases) {
      // A case that has begun ends by itself, and takes away what it made.
      if (stop.aborted) break
      const problem = await runContractCase(contractCase, { ...folder, generation: 0 }, 'cases/').then(
        () => undefined,
        (error: unknown) => problemOf(error),
      )
      const result = { contractCase, ...(problem !== undefined && { problem }) }
      results.push(result)
      report.result(result)
    }
    report.end({
      storage: describeStorage(values),
      results,
      advice: stop.aborted ? [] : await adviseOn(values),
      isStopped: stop.aborted,
    })
    return stop.aborted || results.some(({ problem }) => problem !== undefined) ? 1 : 0
  } finally {
    await opened.disposeAsync()
  }
}

const problemLines = 8

function problemOf(error: unknown): string {
  const message = isNativeError(error) ? error.message || error.name : String(error)
  return message.split('\n').slice(0, problemLines).join('\n')
}

/** Two drivers on a new folder of the storage; `opened` takes everything away again. */
async function openFolder(values: StorageValues, opened: AsyncDisposableStack) {
  await trustCertificates(values)
  const below = await valuesBelow(values, `stowage-check-${randomUUID()}`)
  if (values.storage === 'filesystem') opened.defer(() => rm(below.root, { recursive: true, force: true }))
  const open = async () => {
    const driver = await openStorage(below)
    opened.defer(() => driver.close?.())
    return driver
  }
  const first = await open()
  // Memory is not shared: there is one.
  const second = values.storage === 'memory' ? first : await open()
  const uploads: UploadHandle[] = []
  await first.write('reachable', Buffer.from('stowage check-storage'))
  opened.defer(() => removeEverything(first, uploads, below))
  return { driver: recordUploads(first, uploads), second: recordUploads(second, uploads) }
}

async function valuesBelow(values: StorageValues, folder: string): Promise<StorageValues> {
  if (values.storage === 's3') {
    const { s3Prefix } = values
    return { ...values, s3Prefix: s3Prefix === '' ? folder : `${s3Prefix.replace(/\/$/, '')}/${folder}` }
  }
  if (values.storage === 'filesystem' && !(await isDirectory(values.root))) {
    throw new CommandFailed(`there is no directory ${values.root}: make it, or name another by --root`)
  }
  return { ...values, root: join(values.root, folder) }
}

async function isDirectory(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  return found?.isDirectory() ?? false
}

/** The contract reads presigned URLs as a client would: with `fetch`, which knows this process's authorities alone. */
async function trustCertificates({ storage, s3CaFile }: StorageValues): Promise<void> {
  if (storage !== 's3' || s3CaFile === undefined) return
  setDefaultCACertificates([...getCACertificates('default'), await readCertificates(s3CaFile)])
}

/** What is unfinished does not show in a listing: only its handle leads to it. */
function recordUploads(driver: Driver, uploads: UploadHandle[]): Driver {
  return {
    ...driver,
    upload: (key, options) =>
      driver.upload(key, {
        ...options,
        record: async (handle) => {
          uploads.push(handle)
          await options.record?.(handle)
        },
      }),
  }
}

async function removeEverything(
  driver: Driver,
  uploads: readonly UploadHandle[],
  values: StorageValues,
): Promise<void> {
  try {
    for (const handle of uploads) await driver.abortUpload(handle, { begunBefore: Infinity })
    const keys: string[] = []
    for await (const { key } of driver.list('')) keys.push(key)
    await driver.remove(keys)
  } catch (cause) {
    const reason = isNativeError(cause) ? cause.message : String(cause)
    const place = describeStorage(values)
    throw new CommandFailed(`${place} could not be removed; do it yourself. ${reason}`, { cause })
  }
}

async function adviseOn(values: StorageValues): Promise<readonly string[]> {
  if (values.storage !== 's3') return []
  const { adviseOnBucket } = await import('../storage/s3/advice.ts')
  return adviseOnBucket(await s3Options(values))
}
