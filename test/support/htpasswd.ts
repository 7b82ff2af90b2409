/** Users for a registry in this process: htpasswd files in a temporary folder, and bcrypt, counted. */
import bcrypt from 'bcrypt'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Policy } from '../../src/auth/access.ts'
import { openAuthentication } from '../../src/auth/authentication.ts'
import type { UserFile } from '../../src/auth/user-files.ts'
import type { Clock } from '../../src/clock.ts'
import type { AccessControl } from '../../src/http/authorize.ts'
import { parseRepositoryName } from '../../src/oci/names.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { manualClock } from './manual-clock.ts'

/** Of each user the password, by name. */
export type Passwords = Readonly<Record<string, string>>

export interface TestUsersOptions {
  readonly users?: Passwords
  /** Users good for one repository alone, by its name. */
  readonly limited?: Readonly<Record<string, Passwords>>
  readonly anonymous?: Policy['anonymous']
  readonly clock?: Clock
}

export interface TestUsers extends AsyncDisposable {
  readonly accessControl: AccessControl
  /** How often bcrypt was asked. */
  readonly comparisons: () => number
  readonly lines: readonly string[]
  /** Writes the file of the users who are good for everything. */
  write(users: Passwords): Promise<void>
}

/** Cheap: what bcrypt costs is none of a test's business. */
const cost = 4

export async function openTestUsers(options: TestUsersOptions = {}): Promise<TestUsers> {
  const { users = { alice: 'secret' }, limited = {}, anonymous = 'none', clock = manualClock() } = options
  const folder = await mkdtemp(join(tmpdir(), 'stowage-users-'))
  const path = join(folder, 'htpasswd')
  const write = async (passwords: Passwords) => writeFile(path, htpasswdOf(passwords))
  await write(users)
  const files: UserFile[] = [{ path }]
  for (const [index, [name, passwords]] of Object.entries(limited).entries()) {
    const file = join(folder, `limited-${index}`)
    await writeFile(file, htpasswdOf(passwords))
    files.push({ path: file, repositories: new Set([parseRepositoryName(name)]) })
  }
  const lines: string[] = []
  const log = createLog({
    level: 'debug',
    format: 'json',
    destination: { write: (line) => lines.push(line) },
  })
  let comparisons = 0
  const compare = async (password: string, hash: string) => {
    comparisons++
    return bcrypt.compare(password, hash)
  }
  const { identify, close } = await openAuthentication({ files, clock, log, compare })
  return {
    accessControl: { policy: { anonymous, hasUsers: true }, identify },
    comparisons: () => comparisons,
    lines,
    write,
    async [Symbol.asyncDispose]() {
      close()
      await rm(folder, { recursive: true })
    },
  }
}

export function htpasswdOf(passwords: Passwords): string {
  const entries = Object.entries(passwords)
  return entries.map(([user, password]) => `${user}:${bcrypt.hashSync(password, cost)}\n`).join('')
}

/** The header of a request. */
export function basicOf(user: string, password: string) {
  return { Authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` }
}
