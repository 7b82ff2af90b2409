import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { run } from '../support/processes.ts'

const runner = fileURLToPath(new URL('../run.ts', import.meta.url))

/** A machine that has built no tool, and has no Go to build one. */
let bare: Record<string, string | undefined>
let cache = ''
beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), 'stowage-run-'))
  const path = dirname(process.execPath)
  bare = { PATH: path, XDG_CACHE_HOME: cache, STOWAGE_TOOLS_DIR: undefined, CI: undefined }
})
afterEach(() => rm(cache, { recursive: true, force: true }))

test('a tier that cannot run is named, with what is missing and the command that would run it', async () => {
  const { code, stdout } = await run(process.execPath, [runner, 'conformance'], { env: bare })
  const lines = stdout.toString().trimEnd().split('\n')
  expect(lines).toContain('conformance  did not run: Go, to build conformance, minio')
  expect(lines.join('\n')).toContain('to run it: npm test -- conformance')
  expect(lines.at(-1)).toBe('0 passed, 0 failed')
  expect(code).toBe(0)
})

test('with CI=true a tier that cannot run is a failure', async () => {
  const { code, stdout } = await run(process.execPath, [runner, 'conformance'], {
    env: { ...bare, CI: 'true' },
  })
  expect(stdout.toString().trimEnd().split('\n').at(-1)).toBe('0 passed, 1 failed')
  expect(code).toBe(1)
})

test('tests that do not exist are a failure', async () => {
  const args = [runner, '--check', '--', 'no/such/file']
  const { code, stdout } = await run(process.execPath, args, { env: bare })
  expect(stdout.toString().trimEnd().split('\n').at(-1)).toBe('0 passed, 1 failed')
  expect(code).toBe(1)
})

test('counts are those of jest, and the last line', async () => {
  const args = [runner, '--check', '--', 'architecture', '-t', 'every source file has a rule']
  const { code, stdout } = await run(process.execPath, args, { env: bare })
  expect(stdout.toString().trimEnd().split('\n').at(-1)).toMatch(/^1 passed, 0 failed, \d+ skipped$/)
  expect(code).toBe(0)
})

test('an unknown tier or option is refused with the usage', async () => {
  for (const argument of ['nosuch', '--nosuch']) {
    const { code, stderr } = await run(process.execPath, [runner, argument], { env: bare })
    expect(stderr).toMatch(/nosuch[^]*Tiers, in their order/)
    expect(code).toBe(2)
  }
})
