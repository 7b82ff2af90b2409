/**
 * What the server finds out about its storage before it relies on it. Backends lie: one that ignores create-if-absent
 * answers 200 like one that honours it. No probe can prove that a storage is linearizable; this one catches what is
 * plainly missing, in a dozen small requests, and leaves nothing behind.
 */
import { randomUUID } from 'node:crypto'
import { PreconditionFailed, type Driver } from './driver.ts'

export interface ProbeResult {
  /** Without it no collection may run: nothing else tells two collectors or two writers apart. */
  readonly createIfAbsent: boolean
  readonly listAfterWrite: boolean
  readonly ranges: boolean
  /** An upload shows only when it is completed, and whole; an aborted one never. */
  readonly uploads: boolean
  readonly removal: boolean
  /** What the backend does not honour, a sentence each, for an operator; empty: nothing amiss. */
  readonly faults: readonly string[]
}

type Aspect = Exclude<keyof ProbeResult, 'faults'>

interface Check {
  readonly aspect: Aspect
  /** What it means where the check fails. */
  readonly fault: string
  run(driver: Driver, folder: string): Promise<boolean>
}

const content = Buffer.from('0123456789')

const checks: readonly Check[] = [
  {
    aspect: 'createIfAbsent',
    fault:
      'The storage ignores create-if-absent (If-None-Match: *): it replaced an object that exists. ' +
      'Garbage collection will not run on it, and concurrent uploads may overwrite each other',
    async run(driver, folder) {
      const key = `${folder}create`
      await driver.write(key, content, { ifAbsent: true })
      try {
        await driver.write(key, Buffer.from('replaced'), { ifAbsent: true })
        return false
      } catch (error) {
        if (!(error instanceof PreconditionFailed)) throw error
      }
      return content.equals((await driver.read(key)) ?? Buffer.alloc(0))
    },
  },
  {
    aspect: 'listAfterWrite',
    fault: 'The storage lists an object late: what was just written is not in the next listing',
    async run(driver, folder) {
      const key = `${folder}list/a`
      await driver.write(key, content)
      const keys: string[] = []
      for await (const listed of driver.list(`${folder}list/`)) keys.push(listed.key)
      const names: string[] = []
      for await (const name of driver.listNames(folder)) names.push(name)
      return keys.length === 1 && keys[0] === key && names.includes('list/')
    },
  },
  {
    aspect: 'ranges',
    fault: 'The storage does not give parts of objects: ranges are ignored, or come with wrong bytes',
    async run(driver, folder) {
      const key = `${folder}range`
      await driver.write(key, content)
      const stream = await driver.stream(key, { range: { start: 2, end: 4 } })
      let text = ''
      for await (const chunk of stream?.body ?? []) text += chunk.toString()
      return text === '234' && stream?.object.size === content.length
    },
  },
  {
    aspect: 'uploads',
    fault: 'The storage does not keep an upload apart until it is completed, or does not store it whole',
    async run(driver, folder) {
      const [completed, aborted] = [`${folder}upload`, `${folder}aborted`]
      const upload = await driver.upload(completed, {})
      await writeLarge(upload)
      const showedEarly = (await driver.stat(completed)).object !== undefined
      await upload.complete()
      const { object } = await driver.stat(completed)
      const other = await driver.upload(aborted, {})
      await writeLarge(other)
      await other.abort()
      const showsAborted = (await driver.stat(aborted)).object !== undefined
      return !showedEarly && !showsAborted && object?.size === largeBytes
    },
  },
  {
    aspect: 'removal',
    fault: 'The storage shows an object after it was removed',
    async run(driver, folder) {
      const keys = [`${folder}remove/a`, `${folder}remove/b`]
      for (const key of keys) await driver.write(key, content)
      await driver.remove(keys)
      for await (const _ of driver.list(`${folder}remove/`)) return false
      return (await driver.read(`${folder}remove/a`)) === undefined
    },
  },
]

/** More than an S3 driver sends in one request by default, so that its upload has parts. */
const largeBytes = 9 * 1024 * 1024

async function writeLarge(upload: { write(chunk: Buffer): Promise<void> }): Promise<void> {
  for (let left = largeBytes; left > 0; left -= 1024 * 1024) await upload.write(Buffer.alloc(1024 * 1024))
}

/**
 * Tries what the registry relies on, below `stowage/probe/`, and takes it away again.
 * @throws what the driver throws, where the storage cannot be used at all (credentials, bucket, network)
 */
export async function probeStorage(driver: Driver): Promise<ProbeResult> {
  const folder = `stowage/probe/${randomUUID()}/`
  const honoured: Partial<Record<Aspect, boolean>> = {}
  try {
    for (const { aspect, run } of checks) honoured[aspect] = await run(driver, folder)
  } finally {
    await removeAll(driver, folder).catch(() => {
      // What failed first is what has to be told; a leftover of a probe harms nobody.
    })
  }
  const is = (aspect: Aspect) => honoured[aspect] === true
  return {
    createIfAbsent: is('createIfAbsent'),
    listAfterWrite: is('listAfterWrite'),
    ranges: is('ranges'),
    uploads: is('uploads'),
    removal: is('removal'),
    faults: checks.filter(({ aspect }) => !is(aspect)).map(({ fault }) => fault),
  }
}

async function removeAll(driver: Driver, folder: string): Promise<void> {
  const keys: string[] = []
  for await (const { key } of driver.list(folder)) keys.push(key)
  // Where listing is late, what the checks wrote is known by name all the same.
  const known = ['create', 'list/a', 'range', 'upload', 'remove/a', 'remove/b'].map((name) => folder + name)
  await driver.remove([...new Set([...keys, ...known])])
}
