/**
 * A registry as `stowage serve` runs it, whose storage is watched: the process can end itself by SIGKILL just before
 * or just after its k-th storage operation, or in the middle of it, and tells what it asked of its storage. Nothing happens in the background,
 * so that the k-th operation is the same one each time.
 *
 * node server.ts '{"storage": {"root": "/some/folder"}, "kill": {"at": 7, "when": "before"}}'
 */
import { setTimeout as delay } from 'node:timers/promises'
import { systemClock, type Clock } from '../../src/clock.ts'
import { createApp } from '../../src/http/app.ts'
import { withoutUsers } from '../../src/http/authorize.ts'
import { listen } from '../../src/http/server.ts'
import { openRegistry } from '../../src/registry/registry.ts'
import type { Driver } from '../../src/storage/driver.ts'
import type { S3Options } from '../../src/storage/s3/options.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { interruptDriver, killProcess } from '../support/driver-interrupt.ts'
import { logOperations } from '../support/driver-log.ts'

export type S3Storage = S3Options
export type StorageOptions = { readonly root: string } | S3Storage

export interface Kill {
  readonly at: number
  readonly when: 'before' | 'during' | 'after'
  /** How long after the operation's begin, for `during`. */
  readonly afterMs?: number
}

export interface ServerOptions {
  readonly storage: StorageOptions
  readonly kill?: Kill
}

/** What GET /watched answers. */
export interface Watched {
  /** Each as `verb key`, from the start of the process on. */
  readonly operations: readonly string[]
  /** How many bytes of uploads under way were read back from the storage. */
  readonly uploadBytesRead: number
}

export async function openStorage(options: StorageOptions, clock: Clock = systemClock): Promise<Driver> {
  if ('root' in options) {
    const { filesystemDriver } = await import('../../src/storage/filesystem.ts')
    return filesystemDriver({ root: options.root, clock })
  }
  const { s3Driver } = await import('../../src/storage/s3.ts')
  return s3Driver({ ...options, clock })
}

async function serve({ storage, kill }: ServerOptions): Promise<void> {
  const opened = await openStorage(storage)
  const counted = countUploadBytes(opened)
  const logged = logOperations(
    kill
      ? interruptDriver(counted.driver, { ...kill, interrupt: () => delay(kill.afterMs).then(killProcess) })
      : counted.driver,
  )
  const log = createLog({ level: 'warn', format: 'json' })
  const stopped = stoppedClock()
  const registry = await openRegistry({
    driver: logged.driver,
    clock: stopped.clock,
    log,
    claimOwner: 'faults',
    manifestMaxBytes: 4 * 2 ** 20,
    uploadExpiryMs: 86_400_000,
  })
  await stopped.isQuiet
  const answer = createApp({ registry, log, redirect: false, accessControl: withoutUsers('full') }).callback()
  const { port } = await listen(
    (request, response) => {
      if (request.url !== '/watched') return answer(request, response)
      const operations = logged.operations.map(({ verb, key }) => `${verb} ${key}`)
      response.end(JSON.stringify({ operations, uploadBytesRead: counted.bytes() } satisfies Watched))
    },
    { host: '127.0.0.1', port: 0, clock: systemClock },
  )
  console.log(`listening on http://127.0.0.1:${port}`)
}

/** Who sleeps never wakes. `isQuiet` resolves when both that work in the background, poll and expiry, are asleep. */
function stoppedClock(): { readonly clock: Clock; readonly isQuiet: Promise<void> } {
  const quiet = Promise.withResolvers<void>()
  let sleepers = 0
  const sleep = () => {
    if (++sleepers === 2) quiet.resolve()
    return new Promise<void>(() => undefined)
  }
  return { clock: { ...systemClock, sleep }, isQuiet: quiet.promise }
}

function countUploadBytes(driver: Driver): { readonly driver: Driver; bytes(): number } {
  let bytes = 0
  const isUpload = (key: string) => key.startsWith('stowage/uploads/') && key.includes('/data/')
  async function* counted(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of body) {
      bytes += chunk.length
      yield chunk
    }
  }
  return {
    bytes: () => bytes,
    driver: {
      ...driver,
      async read(key, options) {
        const found = await driver.read(key, options)
        if (isUpload(key)) bytes += found?.length ?? 0
        return found
      },
      async stream(key, options) {
        const found = await driver.stream(key, options)
        return found && isUpload(key) ? { ...found, body: counted(found.body) } : found
      },
    },
  }
}

if (import.meta.main) await serve(JSON.parse(process.argv[2] ?? '{}') as ServerOptions)
