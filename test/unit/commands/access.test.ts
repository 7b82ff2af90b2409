import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  accessSettings,
  anonymousAccess,
  checkAccessSettings,
  openAccessControl,
  type AccessValues,
} from '../../../src/commands/access.ts'
import { createLog } from '../../../src/telemetry/log.ts'
import { basicOf, htpasswdOf } from '../../support/htpasswd.ts'

const nothing: AccessValues = { htpasswd: undefined, htpasswdLimited: undefined, anonymous: undefined }
const limited = (value: string) => accessSettings.htpasswdLimited.kind.schema.safeParse(value)
const canary = limited('stowage-canary=canary').data

function problemsOf(host: string, given: Partial<AccessValues>): string[] {
  const values = { ...nothing, ...given, listen: { host, port: 5000 } }
  const isGiven = (key: keyof AccessValues) => values[key] !== undefined
  return [...checkAccessSettings(values, isGiven)].map(({ key, problem }) => `${key}: ${problem}`)
}

const loopback = ['127.0.0.1', '127.1.2.3', '::1', 'localhost']
const elsewhere = [
  '',
  '0.0.0.0',
  '::',
  '10.1.2.3',
  'registry.example.org',
  '128.0.0.1',
  'localhost.example.org',
]

describe('what anybody may do', () => {
  test('is nothing where there are users, and everything where there are none', () => {
    expect(anonymousAccess(nothing)).toBe('full')
    expect(anonymousAccess({ ...nothing, htpasswd: 'users' })).toBe('none')
    expect(anonymousAccess({ ...nothing, htpasswdLimited: canary })).toBe('none')
  })

  test('is what was said', () => {
    for (const anonymous of ['none', 'pull', 'full'] as const) {
      expect(anonymousAccess({ ...nothing, anonymous })).toBe(anonymous)
      expect(anonymousAccess({ ...nothing, htpasswd: 'users', anonymous })).toBe(anonymous)
    }
  })

  test.each(loopback)('need not be said on %s', (host) => {
    expect(problemsOf(host, {})).toEqual([])
  })

  test.each(elsewhere)('has to be said on %j, where others reach it', (host) => {
    expect(problemsOf(host, {})).toEqual([
      'anonymous: missing; others can reach this address: give --htpasswd FILE for people to log in, or say what anybody may do: --anonymous pull, or --anonymous full',
    ])
    expect(problemsOf(host, { htpasswd: 'users' })).toEqual([])
    expect(problemsOf(host, { htpasswdLimited: canary })).toEqual([])
    expect(problemsOf(host, { anonymous: 'pull' })).toEqual([])
    expect(problemsOf(host, { anonymous: 'full' })).toEqual([])
  })

  test('cannot be nothing where there are no users', () => {
    for (const host of [...loopback, ...elsewhere]) {
      expect(problemsOf(host, { anonymous: 'none' })).toEqual([
        'anonymous: nobody could do anything: there are no users; give --htpasswd, too',
      ])
    }
  })
})

describe('--htpasswd-limited', () => {
  test.each([
    ['stowage-canary=/etc/canary', [['/etc/canary', ['stowage-canary']]]],
    ['a/b=x,c=y', [['x', ['a/b']], ['y', ['c']]]], // prettier-ignore
    ['a=x,b=x', [['x', ['a', 'b']]]],
    ['a=/x=y', [['/x=y', ['a']]]],
    ['a=/with space', [['/with space', ['a']]]],
  ])('%s', (value, files) => {
    expect([...(limited(value).data ?? [])].map(([path, names]) => [path, [...names]])).toEqual(files)
  })

  test.each(['', 'a', 'a=', '=x', 'A=x', 'a=x,', ',a=x', 'a=x,,b=y', 'a=x,b', '/etc/canary', '*=x', 'a=\0'])(
    '%j is refused',
    (value) => {
      expect(limited(value).success).toBe(false)
    },
  )
})

describe('the users', () => {
  let folder: string
  const log = createLog({ level: 'error', format: 'json', destination: { write: () => undefined } })
  const pathOf = (name: string) => join(folder, name)

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'stowage-access-'))
    await writeFile(pathOf('users'), htpasswdOf({ alice: 'secret' }))
    await writeFile(pathOf('canary'), htpasswdOf({ canary: 'tweet' }))
  })
  afterEach(async () => rm(folder, { recursive: true }))

  const open = async (given: Partial<AccessValues>) => openAccessControl({ ...nothing, ...given }, log)

  test('of both kinds of files are known', async () => {
    const { policy, identify, close } = await open({
      htpasswd: pathOf('users'),
      htpasswdLimited: limited(`stowage-canary=${pathOf('canary')},more=${pathOf('canary')}`).data,
    })
    expect(policy).toEqual({ anonymous: 'none', hasUsers: true })
    expect(await identify(basicOf('alice', 'secret').Authorization)).toEqual({ kind: 'user', name: 'alice' })
    expect(await identify(basicOf('canary', 'tweet').Authorization)).toEqual({
      kind: 'user',
      name: 'canary',
      repositories: new Set(['stowage-canary', 'more']),
    })
    expect(await identify(undefined)).toEqual({ kind: 'anonymous' })
    close()
  })

  test('are none where there is no file', async () => {
    const { policy, identify, close } = await open({})
    expect(policy).toEqual({ anonymous: 'full', hasUsers: false })
    expect(await identify('Basic anything')).toEqual({ kind: 'anonymous' })
    close()
  })

  test('that cannot be read keep the server from starting, in a sentence', async () => {
    await expect(open({ htpasswd: pathOf('none') })).rejects.toMatchObject({
      name: 'CommandFailed',
      message: expect.stringMatching(/^users cannot be read from .*none: ENOENT/),
    })
    await writeFile(pathOf('users'), 'alice:$apr1$hunter2')
    await expect(open({ htpasswd: pathOf('users') })).rejects.toMatchObject({
      name: 'CommandFailed',
      message: `users cannot be read from ${pathOf('users')}: line 1: the hash of user "alice" is not bcrypt but MD5 (apr1); make it anew with \`htpasswd -B\` (htpasswd -B FILE USER)`,
    })
  })
})
