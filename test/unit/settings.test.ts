import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { Command } from 'commander'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  addSettings,
  readSettings,
  SettingsRefused,
  type CheckTogether,
  type Settings,
} from '../../src/settings.ts'
import { bytes, choice, duration, hostAndPort, httpUrl, text, yesOrNo } from '../../src/settings-kinds.ts'

const group = 'Test:'
const settings = {
  listen: { group, kind: hostAndPort, default: '127.0.0.1:5000', help: 'where' },
  s3Bucket: { group, kind: text('<name>', /^[a-z0-9]{3,}$/, 'the name of a bucket'), help: 'bucket' },
  partBytes: { group, kind: bytes({ min: 1024, max: 2 ** 30 }), default: '8MiB', help: 'size' },
  expiry: { group, kind: duration({ minMs: 1_000, maxMs: 86_400_000 }), default: '24h', help: 'age' },
  pathStyle: { group, kind: yesOrNo, default: 'false', help: 'style' },
  endpoint: { group, kind: httpUrl, help: 'where it is' },
  level: { group, kind: choice('<level>', ['info', 'warn']), default: 'info', help: 'level' },
  apiKey: { group, kind: text('<key>', /^[a-z]+$/, 'lower case letters'), help: 'key', isSecret: true },
} as const satisfies Settings

interface Given {
  readonly env?: Readonly<Record<string, string>>
  /** The content of the file, whose path then follows --config. */
  readonly file?: string
  readonly checkTogether?: CheckTogether<typeof settings>
}

let folder: string
const before = { ...process.env }

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stowage-settings-'))
})
afterEach(async () => {
  for (const name of Object.keys(process.env)) if (name.startsWith('STOWAGE_')) delete process.env[name]
  Object.assign(process.env, before)
  await rm(folder, { recursive: true })
})

async function read(args: readonly string[], { env = {}, file, checkTogether }: Given = {}) {
  // Commander reads the variables of the process.
  for (const name of Object.keys(process.env)) if (name.startsWith('STOWAGE_')) delete process.env[name]
  Object.assign(process.env, env)
  const command = new Command('test').exitOverride()
  addSettings(command, settings)
  const path = join(folder, 'stowage.yaml')
  if (file !== undefined) await writeFile(path, file)
  command.parse([...args, ...(file === undefined ? [] : ['--config', path])], { from: 'user' })
  const known = new Set([...Object.keys(settings), 'ofAnotherCommand'])
  return readSettings(command, settings, { known, env }, checkTogether)
}

async function faultsOf(args: readonly string[], given: Given = {}): Promise<readonly string[]> {
  const outcome = await read(args, given).catch((error: unknown) => error)
  if (outcome instanceof SettingsRefused) return outcome.faults.map((fault) => fault.replaceAll(folder, ''))
  throw new Error(`expected a refusal, got ${JSON.stringify(outcome)}`)
}

describe('where a value comes from', () => {
  test('without anything given the defaults hold, parsed, and what has none is undefined', async () => {
    const values = await read([])
    expect(values).toEqual({
      listen: { host: '127.0.0.1', port: 5000 },
      s3Bucket: undefined,
      partBytes: 8 * 2 ** 20,
      expiry: 86_400_000,
      pathStyle: false,
      endpoint: undefined,
      level: 'info',
      apiKey: undefined,
    })
    expect(Object.isFrozen(values)).toBe(true)
  })

  test('a flag goes before a variable, a variable before the file, the file before the default', async () => {
    const file = 's3Bucket: file\nlisten: :1\nexpiry: 1h\nlevel: warn\n'
    const env = { STOWAGE_S3_BUCKET: 'variable', STOWAGE_LISTEN: ':2' }
    const values = await read(['--s3-bucket', 'flag'], { env, file })
    expect(values.s3Bucket).toBe('flag')
    expect(values.listen.port).toBe(2)
    expect(values.expiry).toBe(3_600_000)
    expect(values.level).toBe('warn')
    expect(values.partBytes).toBe(8 * 2 ** 20)
  })

  test('a variable says false as well as true, and a flag alone is true', async () => {
    expect((await read([], { env: { STOWAGE_PATH_STYLE: 'false' } })).pathStyle).toBe(false)
    expect((await read([], { env: { STOWAGE_PATH_STYLE: 'true' } })).pathStyle).toBe(true)
    expect((await read(['--path-style'], { env: { STOWAGE_PATH_STYLE: 'false' } })).pathStyle).toBe(true)
    expect((await read(['--path-style', 'false'], { env: { STOWAGE_PATH_STYLE: 'true' } })).pathStyle).toBe(
      false,
    )
  })

  test('the file may be JSON, and is named by a flag or by STOWAGE_CONFIG', async () => {
    const file = '{"s3Bucket": "images", "pathStyle": true, "partBytes": 4194304}'
    expect(await read([], { file })).toMatchObject({
      s3Bucket: 'images',
      pathStyle: true,
      partBytes: 4_194_304,
    })
    const path = join(folder, 'other.json')
    await writeFile(path, file)
    expect(await read([], { env: { STOWAGE_CONFIG: path } })).toMatchObject({ s3Bucket: 'images' })
  })

  test('values of the file are taken as they are written: 0123 is no number', async () => {
    expect((await read([], { file: 's3Bucket: 0123' })).s3Bucket).toBe('0123')
  })

  test('a file without a setting is no fault', async () => {
    for (const file of ['', '# nothing yet\n', '{}']) expect((await read([], { file })).level).toBe('info')
  })

  test('settings of other commands may stand in the environment and in the file', async () => {
    const env = { STOWAGE_OF_ANOTHER_COMMAND: '1' }
    expect((await read([], { env, file: 'ofAnotherCommand: 1' })).level).toBe('info')
  })
})

describe('what a value may be', () => {
  test.each([
    ['127.0.0.1:0', '127.0.0.1', 0],
    ['[::1]:5000', '::1', 5000],
    [':443', '', 443],
    ['registry.example.org:65535', 'registry.example.org', 65535],
  ])('%s is a host and a port', async (value, host, port) => {
    expect((await read(['--listen', value])).listen).toEqual({ host, port })
  })

  test.each([
    [
      '--listen',
      ['5000', 'localhost', 'localhost:', 'localhost:65536', '::1:5000', 'a b:1', 'http://a:1', '', 'a:-1'],
    ],
    [
      '--part-bytes',
      ['', 'x', '-1', '1.5MiB', '8MB', '8 MiB', '1023', '2GiB', '1e6', '0x10000', '9'.repeat(30)],
    ],
    ['--expiry', ['', '24', '1.5h', 'h', '1h 30m', '-1h', '999ms', '25h', '1w']],
    ['--path-style', ['yes', '1', 'TRUE', '']],
    [
      '--endpoint',
      ['', 'minio:9000', 'ftp://a', 'https://u:p@a', 'https://a/?x=1', 'https://a/#x', 'http://'],
    ],
    ['--level', ['', 'INFO', 'loud']],
    ['--s3-bucket', ['', 'ab', 'A_B', '../up', 'a\nb', 'toString']],
  ])('%s takes none of %j', async (flag, values) => {
    for (const value of values) {
      const faults = await faultsOf([`${flag}=${value}`])
      expect(faults).toEqual([expect.stringMatching(`^${flag} ".*": expected .`)])
      expect(faults[0]).toContain(JSON.stringify(value).slice(0, 100).replace('u:p@', '***@'))
    }
  })

  test.each([
    ['--part-bytes', '1048576', { partBytes: 1_048_576 }],
    ['--part-bytes', '8Mi', { partBytes: 8_388_608 }],
    ['--part-bytes', '1GiB', { partBytes: 2 ** 30 }],
    ['--expiry', '1h30m', { expiry: 5_400_000 }],
    ['--expiry', '1500ms', { expiry: 1_500 }],
    ['--endpoint', 'http://127.0.0.1:9000', { endpoint: 'http://127.0.0.1:9000' }],
  ])('%s takes %s', async (flag, value, expected) => {
    expect(await read([flag, value])).toMatchObject(expected)
  })
})

describe('what is refused', () => {
  test('a value is told with the name it was given by, and with what was expected', async () => {
    const expected = 'expected true or false'
    expect(await faultsOf(['--path-style=maybe'])).toEqual([`--path-style "maybe": ${expected}`])
    expect(await faultsOf([], { env: { STOWAGE_PATH_STYLE: 'maybe' } })).toEqual([
      `STOWAGE_PATH_STYLE "maybe": ${expected}`,
    ])
    expect(await faultsOf([], { file: 'pathStyle: maybe' })).toEqual([
      `pathStyle in /stowage.yaml "maybe": ${expected}`,
    ])
  })

  test('all faults are told at once', async () => {
    const faults = await faultsOf(['--listen', 'x', '--level', 'y'], {
      env: { STOWAGE_EXPIRY: 'z', STOWAGE_UNKNOWN: '1' },
      file: 'partBytes: w\nbucket: v',
    })
    expect(faults.map((fault) => fault.split(/[ :]/)[0])).toEqual([
      'STOWAGE_UNKNOWN',
      'bucket',
      '--listen',
      'partBytes',
      'STOWAGE_EXPIRY',
      '--level',
    ])
  })

  test('a fault of the file that a flag overrides does not count, an unknown key does', async () => {
    expect((await read(['--level', 'warn'], { file: 'level: loud' })).level).toBe('warn')
    expect(await faultsOf(['--level', 'warn'], { file: 'level: loud\nlevels: x' })).toHaveLength(1)
  })

  test('an unknown key is told with the spelling that was meant, its value is not', async () => {
    const faults = await faultsOf([], { file: 's3-bucket: images\ns3SecretKey: hunter2\n__proto__: x' })
    expect(faults).toEqual([
      's3-bucket in /stowage.yaml: there is no such setting; it is written s3Bucket',
      expect.stringMatching(
        /^s3SecretKey in .*: there is no such setting; credentials come from the AWS default chain/,
      ),
      '__proto__ in /stowage.yaml: there is no such setting',
    ])
    expect(faults.join()).not.toContain('hunter2')
  })

  test('a value of several values is refused', async () => {
    expect(await faultsOf([], { file: 'level: [info]\nlisten: {host: a}' })).toEqual([
      'level in /stowage.yaml: expected a single value',
      'listen in /stowage.yaml: expected a single value',
    ])
  })

  test.each([
    ['level: info\nlevel: warn', /: expected YAML or JSON; line 2: Map keys must be unique/],
    ['level: "info', /: expected YAML or JSON; line 1: /],
    ['- level', /: expected a mapping from settings to values$/],
    ['level', /: expected a mapping from settings to values$/],
  ])('a file with %j is refused with the place', async (file, problem) => {
    expect(await faultsOf([], { file })).toEqual([expect.stringMatching(problem)])
  })

  test('a file that is not there is refused, by the name it was given by', async () => {
    expect(await faultsOf(['--config', join(folder, 'none.yaml')])).toEqual([
      expect.stringMatching(/^--config "\/none.yaml": cannot be read: ENOENT/),
    ])
    expect(await faultsOf([], { env: { STOWAGE_CONFIG: folder } })).toEqual([
      expect.stringMatching(/^STOWAGE_CONFIG "": cannot be read: EISDIR/),
    ])
  })

  test('an unknown variable is told by its name alone, and where credentials belong', async () => {
    const faults = await faultsOf([], { env: { STOWAGE_S3_SECRET_ACCESS_KEY: 'hunter2', STOWAGE_: '' } })
    expect(faults).toEqual([
      expect.stringMatching(/^STOWAGE_S3_SECRET_ACCESS_KEY: there is no such setting; credentials come from/),
      'STOWAGE_: there is no such setting',
    ])
    expect(faults.join()).not.toContain('hunter2')
  })

  test('the variables that Kubernetes sets for a Service named stowage are none of ours', async () => {
    const env = {
      STOWAGE_SERVICE_HOST: '10.0.0.1',
      STOWAGE_SERVICE_PORT: '5000',
      STOWAGE_SERVICE_PORT_HTTP: '5000',
      STOWAGE_PORT: 'tcp://10.0.0.1:5000',
      STOWAGE_PORT_5000_TCP: 'tcp://10.0.0.1:5000',
      STOWAGE_PORT_5000_TCP_ADDR: '10.0.0.1',
      STOWAGE_OPERATOR_SERVICE_HOST: '10.0.0.2',
    }
    expect((await read([], { env })).level).toBe('info')
  })

  test('a secret is not repeated, and neither is a password in a URL', async () => {
    expect(await faultsOf(['--api-key', 'Hunter2'])).toEqual([
      '--api-key (hidden): expected lower case letters',
    ])
    const [fault] = await faultsOf(['--endpoint', 'https://me:hunter2@s3.example.org'])
    expect(fault).toMatch(/^--endpoint "https:\/\/\*\*\*@s3.example.org": expected an http/)
  })

  test('a long value is cut, and one with control characters stays on its line', async () => {
    const [fault = ''] = await faultsOf(['--level', `\u001b[2J\n${'x'.repeat(5000)}`])
    expect(fault.length).toBeLessThan(300)
    expect(fault).toMatch(/^[\x20-\x7e]+$/)
  })

  test('values that do not go together are told, and what is missing by every name it has', async () => {
    const checkTogether: CheckTogether<typeof settings> = function* ({ level }, isGiven) {
      if (isGiven('endpoint')) yield { key: 'endpoint', problem: `is not for level ${level}` }
      if (!isGiven('s3Bucket')) yield { key: 's3Bucket', problem: 'missing' }
      if (isGiven('level')) yield { key: 'level', problem: 'never' }
    }
    expect(await faultsOf(['--endpoint', 'http://a'], { checkTogether })).toEqual([
      '--endpoint "http://a": is not for level info',
      '--s3-bucket (or STOWAGE_S3_BUCKET): missing',
    ])
  })

  test('an unknown flag is refused by the parser, with a suggestion', async () => {
    const silent = new Command('test').exitOverride().configureOutput({ writeErr: () => undefined })
    addSettings(silent, settings)
    expect(() => silent.parse(['--liste', 'x'], { from: 'user' })).toThrow(/unknown option '--liste'/)
  })
})

test('the help names flag, default and variable of each setting, below its heading', () => {
  const command = new Command('test').configureHelp({ helpWidth: 200 })
  addSettings(command, settings)
  const help = command.helpInformation()
  expect(help).toContain('Test:\n')
  expect(help).toMatch(/--listen <host:port> +where \(default: 127.0.0.1:5000, env: STOWAGE_LISTEN\)/)
  expect(help).toMatch(/--path-style \[true\|false\] +style \(default: false, env: STOWAGE_PATH_STYLE\)/)
  expect(help).toMatch(/--s3-bucket <name> +bucket \(env: STOWAGE_S3_BUCKET\)/)
  expect(help).toMatch(/--config <file> .*env: STOWAGE_CONFIG/)
})
