/** The command as a user starts it, without a server: what it refuses, and what it says. */
import { describe, expect, test } from '@jest/globals'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { run } from '../support/processes.ts'
import { withoutSettings } from '../support/stowage.ts'

const pathOf = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const bin = pathOf('bin/stowage.mjs')
/** The source and not dist/, which may be older. */
const main = pathOf('src/main.ts')

async function stowage(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const { code, stdout, stderr } = await run(process.execPath, [main, ...args], {
    env: { ...withoutSettings, ...env },
  })
  return { code, stdout: stdout.toString(), stderr }
}

/** A module that is loaded before anything else, as text. */
const preload = (text: string) => ['--import', `data:text/javascript,${encodeURIComponent(text)}`]

describe('help', () => {
  test('--version is the version of the package', async () => {
    const { version } = JSON.parse(await readFile(pathOf('package.json'), 'utf8')) as { version: string }
    expect(await stowage(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' })
  })

  test('--help names the commands, and how settings are given', async () => {
    const { code, stdout } = await stowage(['--help'])
    expect(code).toBe(0)
    for (const word of ['serve', 'check-storage', 'STOWAGE_S3_BUCKET', '--config', 's3Bucket']) {
      expect(stdout).toContain(word)
    }
  })

  test('help serve is serve --help: every setting with its default and variable, and examples', async () => {
    const [first, second] = await Promise.all([stowage(['help', 'serve']), stowage(['serve', '--help'])])
    expect(first).toEqual(second)
    expect(first.code).toBe(0)
    const help = first.stdout.replaceAll(/\s+/g, ' ')
    const flags = [...help.matchAll(/ (--[a-z0-9-]+) [<[]/g)].map(([, flag = '']) => flag)
    expect(new Set(flags).size).toBeGreaterThanOrEqual(19)
    for (const flag of new Set(flags)) {
      expect(help).toContain(`env: STOWAGE_${flag.slice(2).replaceAll('-', '_').toUpperCase()})`)
    }
    expect(help).toContain('default: 127.0.0.1:5000')
    expect(help).toContain('Examples: stowage serve')
  })

  test('help loads neither the web framework nor the AWS SDK nor the log', async () => {
    const loaded = await run(
      process.execPath,
      [
        ...preload(`import { registerHooks } from 'node:module'
          registerHooks({ resolve(specifier, context, next) {
            const found = next(specifier, context)
            process.stderr.write(found.url + '\\n')
            return found
          } })`),
        main,
        'help',
        'serve',
      ],
      { env: withoutSettings },
    )
    expect(loaded.code).toBe(0)
    expect(loaded.stderr).toMatch(/node_modules\/commander\//)
    expect(loaded.stderr).not.toMatch(/node_modules\/(koa|@koa|@aws-sdk|@smithy|pino|yaml|bcrypt)\//)
  })
})

describe('what is refused ends with code 2', () => {
  test('no command: the help goes to stderr', async () => {
    const { code, stdout, stderr } = await stowage([])
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toMatch(/^Usage: stowage /)
  })

  test('an unknown command, with a suggestion', async () => {
    const { code, stderr } = await stowage(['serv'])
    expect(code).toBe(2)
    expect(stderr).toBe("error: unknown command 'serv'\n(Did you mean serve?)\n")
  })

  test('an unknown flag, with a suggestion and without its value', async () => {
    const known = await stowage(['serve', '--liste', ':1'])
    expect([known.code, known.stderr]).toEqual([
      2,
      "error: unknown option '--liste'\n(Did you mean --listen?)\n",
    ])
    const secret = await stowage(['serve', '--s3-secret-key=hunter2'])
    expect([secret.code, secret.stderr]).toEqual([2, "error: unknown option '--s3-secret-key'\n"])
  })

  test('a flag without its value, and an argument that nothing asks for', async () => {
    expect((await stowage(['serve', '--listen'])).code).toBe(2)
    expect((await stowage(['serve', 'now'])).stderr).toMatch(/too many arguments for 'serve'/)
  })

  test('malformed and unknown settings, all at once, with name, value and what was expected', async () => {
    const { code, stdout, stderr } = await stowage(['serve', '--listen', 'x', '--upload-expiry=soon'], {
      STOWAGE_MANIFEST_MAX_BYTES: '4MB',
      STOWAGE_BUCKET: 'images',
    })
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr.split('\n')).toEqual([
      'stowage serve: settings refused',
      '  STOWAGE_BUCKET: there is no such setting',
      expect.stringMatching(/^ {2}--listen "x": expected HOST:PORT, such as 127\.0\.0\.1:5000/),
      expect.stringMatching(/^ {2}STOWAGE_MANIFEST_MAX_BYTES "4MB": expected a number of bytes from 1KiB to/),
      expect.stringMatching(/^ {2}--upload-expiry "soon": expected a duration from 1s to 90d/),
      'See: stowage help serve',
      '',
    ])
  })

  test.each([
    [['--storage', 's3'], /--s3-bucket \(or STOWAGE_S3_BUCKET\): missing; --storage s3 needs it/],
    [['--s3-bucket', 'images'], /--s3-bucket "images": is for --storage s3, and the storage is filesystem/],
    [['--storage', 'memory', '--s3-path-style'], /--s3-path-style "true": is for --storage s3/],
    [['--s3-redirect'], /--s3-redirect "true": is for --storage s3, and the storage is filesystem/],
    [
      ['--storage', 'memory', '--root', 'x'],
      /--root "x": is for --storage filesystem, and the storage is memory/,
    ],
    [
      ['--storage=s3', '--s3-bucket=images', '--s3-sse-kms-key-id=k'],
      /--s3-sse-kms-key-id "k": needs --s3-sse/,
    ],
    [
      ['--storage=s3', '--s3-bucket=images', '--s3-part-bytes=64MiB', '--upload-memory=32MiB'],
      /--upload-memory "32MiB": expected at least --s3-part-bytes/,
    ],
    [
      ['--listen', ':0'],
      /--anonymous \(or STOWAGE_ANONYMOUS\): missing; others can reach this address: give/,
    ],
    [['--anonymous', 'none'], /--anonymous "none": nobody could do anything/],
    [['--htpasswd-limited', 'x'], /--htpasswd-limited "x": expected REPOSITORY=FILE/],
    [['--storage', 'azure'], /--storage "azure": expected one of filesystem, s3, memory/],
    [
      ['--s3-prefix', '../x', '--storage', 's3', '--s3-bucket', 'images'],
      /--s3-prefix "..\/x": expected a path/,
    ],
  ])('settings that do not go together: %j', async (args, problem) => {
    const { code, stderr } = await stowage(['serve', ...args])
    expect(stderr).toMatch(problem)
    expect(code).toBe(2)
  })
})

describe('the Node that runs it', () => {
  const pretend = (version: string) =>
    preload(
      `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } })`,
    )

  test.each(['20.20.2', '26.9.1', '12.22.0'])('%s is refused in a sentence', async (version) => {
    const { code, stdout, stderr } = await run(
      process.execPath,
      [...pretend(version), bin, 'serve', '--bad'],
      {
        env: withoutSettings,
      },
    )
    expect([code, stdout.toString(), stderr]).toEqual([
      1,
      '',
      `stowage needs Node.js 26.10 or newer, and this is ${version}.\n`,
    ])
  })

  test.each(['26.10.0', '27.0.0'])('%s is taken', async (version) => {
    const { code, stdout } = await run(process.execPath, [...pretend(version), bin, '--version'], {
      env: withoutSettings,
    })
    expect([code, stdout.toString()]).toEqual([0, expect.stringMatching(/^\d+\.\d+\.\d+\n$/)])
  })
})
