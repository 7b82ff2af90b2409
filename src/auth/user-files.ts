/** The htpasswd files of a server: read at its start, and again whenever they change. */
import { readFile, stat } from 'node:fs/promises'
import { isNativeError } from 'node:util/types'
import type { Clock } from '../clock.ts'
import type { RepositoryName } from '../oci/names.ts'
import type { Log } from '../telemetry/log.ts'
import { HtpasswdInvalid, parseHtpasswd } from './htpasswd.ts'
import type { User, Users } from './users.ts'

export interface UserFile {
  readonly path: string
  /** Where they are named, its users are good for these alone. */
  readonly repositories?: ReadonlySet<RepositoryName>
}

/** A file that a server does not start with: which, and why. */
export class UserFileRefused extends Error {
  override readonly name = 'UserFileRefused'
}

export interface UserFilesOptions {
  readonly files: readonly UserFile[]
  readonly clock: Clock
  readonly log: Log
  /** Called with everybody who can log in: before openUserFiles returns, and after each change. */
  readonly onUsers: (users: Users) => void
}

/** Asked by stat: Kubernetes swaps a symbolic link above the file, which those who watch the file do not see. */
const pollMs = 1_000
/** The largest Secret of Kubernetes: some 12,000 users. */
const maxFileBytes = 2 ** 20

interface WatchedFile extends UserFile {
  text: string
  /** The hash of each of its users. */
  hashes: ReadonlyMap<string, string>
  /** How it looked when it was last read, and when it was last looked at. */
  readAs: string
  seenAs: string
  /** Why it cannot be used right now; logged once. */
  problem?: string | undefined
}

/**
 * A file that cannot be used any more (it is gone, or has a line that is not understood) changes nothing: what it said
 * before stays, and the log says why.
 * @throws UserFileRefused where one cannot be used at the start
 */
export async function openUserFiles(options: UserFilesOptions): Promise<{ close(): void }> {
  const { log, onUsers } = options
  const files = await Promise.all(options.files.map(openFile))
  const users = mergeUsers(files)
  if (users.size === 0) log.warn({ files: files.map(({ path }) => path) }, 'nobody can log in: no users')
  onUsers(users)
  const closing = new AbortController()
  void watch(files, options, closing.signal)
  return {
    close() {
      closing.abort()
    },
  }
}

async function watch(
  files: readonly WatchedFile[],
  { clock, log, onUsers }: UserFilesOptions,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    await clock.sleep(pollMs, signal).catch(() => undefined)
    if (signal.aborted) return
    const changes = await Promise.all(files.map(async (file) => readChange(file, log)))
    if (!changes.includes(true)) continue
    try {
      const users = mergeUsers(files)
      onUsers(users)
      log.info({ users: users.size }, 'the users changed')
    } catch (error) {
      log.error({ err: error }, 'the users did not change: two files do not go together')
    }
  }
}

async function openFile(file: UserFile): Promise<WatchedFile> {
  const readAs = await lookOf(file.path)
  try {
    return { ...file, ...(await readUserFile(file.path)), readAs, seenAs: readAs }
  } catch (error) {
    throw new UserFileRefused(`${file.path}: ${messageOf(error)}`, { cause: error })
  }
}

/** Whether it says something new. Written in place, a file is half there for a moment: it has to stand still first. */
async function readChange(file: WatchedFile, log: Log): Promise<boolean> {
  const look = await lookOf(file.path)
  const isStill = look === file.seenAs
  file.seenAs = look
  if (look === file.readAs || !isStill) return false
  try {
    const { text, hashes } = await readUserFile(file.path)
    const isNew = text !== file.text
    if (file.problem !== undefined) log.info({ file: file.path }, 'the htpasswd file is used again')
    Object.assign(file, { text, hashes, readAs: look, problem: undefined })
    return isNew
  } catch (error) {
    // What stands in it will not change by itself; that it cannot be read may.
    file.readAs = error instanceof HtpasswdInvalid ? look : ''
    const reason = messageOf(error)
    if (reason !== file.problem) log.error({ file: file.path, reason }, 'a changed htpasswd file is not used')
    file.problem = reason
    return false
  }
}

/** Changes whenever the file does, or the one that its path leads to. */
async function lookOf(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
    return [dev, ino, size, mtimeNs, ctimeNs].join(' ')
  } catch (error) {
    return messageOf(error)
  }
}

async function readUserFile(path: string): Promise<Pick<WatchedFile, 'text' | 'hashes'>> {
  const { size } = await stat(path)
  if (size > maxFileBytes) throw new HtpasswdInvalid(`larger than ${maxFileBytes} bytes`)
  const bytes = await readFile(path)
  const text = bytes.toString()
  if (!Buffer.from(text).equals(bytes)) throw new HtpasswdInvalid('is not UTF-8')
  return { text, hashes: parseHtpasswd(text) }
}

/** @throws HtpasswdInvalid where a name is in two files: which of its passwords would be the right one? */
function mergeUsers(files: readonly WatchedFile[]): Users {
  const users = new Map<string, User>()
  for (const { path, hashes, repositories } of files) {
    for (const [name, hash] of hashes) {
      if (users.has(name)) {
        throw new UserFileRefused(`${path}: user ${JSON.stringify(name)} is in another htpasswd file, too`)
      }
      users.set(name, { hash, ...(repositories && { repositories }) })
    }
  }
  return users
}

function messageOf(error: unknown): string {
  return isNativeError(error) ? error.message : String(error)
}
