import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import bcrypt from 'bcrypt'
import { mkdir, mkdtemp, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openUserFiles, UserFileRefused, type UserFile } from '../../../src/auth/user-files.ts'
import type { Users } from '../../../src/auth/users.ts'
import type { Clock } from '../../../src/clock.ts'
import { parseRepositoryName } from '../../../src/oci/names.ts'
import { createLog } from '../../../src/telemetry/log.ts'
import { manualClock } from '../../support/manual-clock.ts'

const canaryRepository = parseRepositoryName('stowage-canary')
const hashes = ['a', 'b', 'c'].map((password) => bcrypt.hashSync(password, 4))
const [first = '', second = '', third = ''] = hashes

let folder: string
let path: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stowage-htpasswd-'))
  path = join(folder, 'htpasswd')
  await writeFile(path, `alice:${first}\n`)
})
afterEach(async () => rm(folder, { recursive: true }))

async function open(files: readonly UserFile[] = [{ path }]) {
  const manual = manualClock()
  let rounds = 0
  const clock: Clock = {
    ...manual,
    sleep(ms, signal) {
      rounds++
      return manual.sleep(ms, signal)
    },
  }
  const lines: string[] = []
  const destination = { write: (line: string) => lines.push(line) }
  const log = createLog({ level: 'debug', format: 'json', destination })
  const seen: Users[] = []
  const watched = await openUserFiles({ files, clock, log, onUsers: (users) => seen.push(users) })
  /** A second passes, and the files have been looked at. */
  const look = async () => {
    const before = rounds
    manual.advance(1_000)
    while (rounds === before) await new Promise(setImmediate)
  }
  /** A change is taken once the file stands still. */
  const settle = async () => {
    await look()
    await look()
  }
  const current = () =>
    [...(seen.at(-1) ?? [])].map(([name, { hash, repositories }]) =>
      repositories ? [name, hash, ...repositories] : [name, hash],
    )
  return {
    ...watched,
    rounds: () => rounds,
    lines,
    seen,
    look,
    settle,
    current,
    [Symbol.dispose]: watched.close,
  }
}

/** By another name and a rename, as careful writers do it. */
async function replace(text: string): Promise<void> {
  await writeFile(`${path}.new`, text)
  await rename(`${path}.new`, path)
}

describe('at the start', () => {
  test('the users of all files are there, those of limited ones for their repositories', async () => {
    const limited = join(folder, 'canary')
    await writeFile(limited, `canary:${second}`)
    using files = await open([{ path }, { path: limited, repositories: new Set([canaryRepository]) }])
    expect(files.current()).toEqual([
      ['alice', first],
      ['canary', second, 'stowage-canary'],
    ])
    expect(files.lines).toEqual([])
  })

  test('a file without users is taken, and the log says that nobody can log in', async () => {
    await writeFile(path, '')
    using files = await open()
    expect(files.current()).toEqual([])
    expect(files.lines.join('')).toContain('nobody can log in')
  })

  test.each([
    ['is not there', async () => rm(path), /htpasswd: ENOENT/],
    ['is a folder', async () => rm(path).then(async () => mkdir(path)), /htpasswd: EISDIR/],
    [
      'has another hash',
      async () => writeFile(path, 'alice:{SHA}secret'),
      /htpasswd: line 1: .* SHA-1; .*htpasswd -B/,
    ],
    ['is too large', async () => truncate(path, 2 ** 20 + 1), /htpasswd: larger than 1048576 bytes/],
    ['is not UTF-8', async () => writeFile(path, Buffer.from([0xff, 0x3a])), /htpasswd: is not UTF-8/],
  ])('a file that %s is refused with its name', async (_, change, message) => {
    await change()
    const opening = open()
    await expect(opening).rejects.toThrow(message)
    await expect(opening).rejects.toBeInstanceOf(UserFileRefused)
  })

  test('a user in two files is refused: which password would be the right one?', async () => {
    const other = join(folder, 'other')
    await writeFile(other, `bob:${second}\nalice:${second}\n`)
    await expect(open([{ path }, { path: other }])).rejects.toThrow(
      `${other}: user "alice" is in another htpasswd file, too`,
    )
  })
})

describe('a change', () => {
  test('is taken: a user comes, a password changes, a user goes', async () => {
    using files = await open()
    await replace(`alice:${first}\nbob:${second}\n`)
    await files.settle()
    expect(files.current()).toEqual([
      ['alice', first],
      ['bob', second],
    ])
    await replace(`alice:${third}\nbob:${second}\n`)
    await files.settle()
    expect(files.current()).toEqual([
      ['alice', third],
      ['bob', second],
    ])
    await replace(`bob:${second}\n`)
    await files.settle()
    expect(files.current()).toEqual([['bob', second]])
    await replace('')
    await files.settle()
    expect(files.current()).toEqual([])
  })

  test('is taken where Kubernetes makes it: by a symbolic link above the file', async () => {
    const volume = join(folder, 'volume')
    for (const [name, user] of [
      ['..1', 'alice'],
      ['..2', 'bob'],
    ] as const) {
      await mkdir(join(volume, name), { recursive: true })
      await writeFile(join(volume, name, 'htpasswd'), `${user}:${first}\n`)
    }
    await symlink('..1', join(volume, '..data'))
    await symlink('..data/htpasswd', join(volume, 'htpasswd'))
    using files = await open([{ path: join(volume, 'htpasswd') }])
    expect(files.current()).toEqual([['alice', first]])
    await symlink('..2', join(volume, '..new'))
    await rename(join(volume, '..new'), join(volume, '..data'))
    await files.settle()
    expect(files.current()).toEqual([['bob', first]])
  })

  test('is not taken while the file is still being written', async () => {
    using files = await open()
    const whole = `alice:${first}\nbob:${second}\n`
    for (let length = 0; length < whole.length; length += 30) {
      await writeFile(path, whole.slice(0, length))
      await files.look()
    }
    expect(files.current()).toEqual([['alice', first]])
    await writeFile(path, whole)
    await files.settle()
    expect(files.current()).toEqual([
      ['alice', first],
      ['bob', second],
    ])
    expect(files.lines.join('')).not.toContain('"level":"error"')
  })

  test('that is none is not told: the file was touched, or nothing happened', async () => {
    using files = await open()
    await files.settle()
    await replace(await readFile(path, 'utf8'))
    await files.settle()
    expect(files.seen).toHaveLength(1)
  })

  test.each([
    ['a line that is not understood', async () => replace('alice:hunter2\n')],
    ['the file gone', async () => rm(path)],
    ['a folder in its place', async () => rm(path).then(async () => mkdir(path))],
  ])('with %s leaves everything as it was; the log says so once, and no password', async (_, change) => {
    using files = await open()
    await change()
    await files.settle()
    await files.settle()
    expect(files.seen).toHaveLength(1)
    expect(files.lines).toHaveLength(1)
    expect(JSON.parse(files.lines[0] ?? '')).toMatchObject({ level: 'error', file: path })
    expect(files.lines[0]).not.toMatch(/hunter2|\$2b/)
    await rm(path, { recursive: true, force: true })
    await replace(`bob:${second}\n`)
    await files.settle()
    expect(files.current()).toEqual([['bob', second]])
  })

  test.each([
    ['broken', async () => replace('alice:hunter2\n')],
    ['gone', async () => rename(path, `${path}.away`)],
  ])(
    'of a file that was %s back to what it said is one line of the log, and nothing else',
    async (_, harm) => {
      using files = await open()
      await harm()
      await files.settle()
      await replace(`alice:${first}\n`)
      await files.settle()
      await files.settle()
      expect(files.seen).toHaveLength(1)
      expect(files.lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
        { level: 'error', file: path },
        { level: 'info', file: path, msg: 'the htpasswd file is used again' },
      ])
    },
  )

  test('of one file is taken while another one is broken', async () => {
    const limited = join(folder, 'canary')
    await writeFile(limited, `canary:${second}\n`)
    using files = await open([{ path }, { path: limited, repositories: new Set([canaryRepository]) }])
    await replace('hunter2')
    await writeFile(limited, `canary:${third}\n`)
    await files.settle()
    expect(files.current()).toEqual([
      ['alice', first],
      ['canary', third, 'stowage-canary'],
    ])
  })

  test('that puts a user into two files is not taken', async () => {
    const limited = join(folder, 'canary')
    await writeFile(limited, `canary:${second}\n`)
    using files = await open([{ path }, { path: limited, repositories: new Set([canaryRepository]) }])
    await replace(`alice:${first}\ncanary:${first}\n`)
    await files.settle()
    expect(files.current()).toContainEqual(['canary', second, 'stowage-canary'])
    expect(files.lines.join('')).toMatch(/"level":"error".*user \\"canary\\" is in another htpasswd file/)
  })

  test('is not looked for after the end', async () => {
    const files = await open()
    files.close()
    await replace(`bob:${second}\n`)
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
    expect(files.seen).toHaveLength(1)
    expect(files.rounds()).toBe(1)
  })
})
