import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { meaningsOf, reportAsJson, reportAsText } from '../../src/commands/check-report.ts'
import { contractCases, type ContractCase } from '../../src/storage/verify-driver.ts'
import { run, start } from '../support/processes.ts'
import { withoutSettings } from '../support/stowage.ts'

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stowage-check-'))
})
afterEach(async () => {
  await rm(folder, { recursive: true })
})

describe('check-storage on a directory', () => {
  test('all holds: code 0, a line a case, and what lay there lies there alone', async () => {
    await writeFile(join(folder, 'mine'), '')
    const { code, stdout, stderr } = await run(process.execPath, [main, 'check-storage', '--root', folder], {
      env: withoutSettings,
    })
    const lines = stdout.toString().trimEnd().split('\n')
    expect([code, stderr]).toEqual([0, ''])
    expect(lines.filter((line) => /^ok {6}\S/.test(line))).toHaveLength(contractCases.length)
    const count = contractCases.length
    expect(lines.at(-1)).toBe(`filesystem ${folder}: ${count} of ${count} hold`)
    expect(await readdir(folder)).toEqual(['mine'])
  })

  test('a signal ends it between two cases, with code 1, and nothing is left', async () => {
    const args = [main, 'check-storage', '--root', folder]
    const running = await start(process.execPath, args, { env: withoutSettings, ready: /^ok / })
    running.kill('SIGTERM')
    expect(await running.exited).toEqual({ code: 1, signal: null })
    expect(running.output()).toMatch(/hold; stopped before the end\n$/)
    expect(await readdir(folder)).toEqual([])
  })

  test('a directory that is not there is a sentence', async () => {
    const root = join(folder, 'none')
    const { code, stdout, stderr } = await run(process.execPath, [main, 'check-storage', '--root', root], {
      env: withoutSettings,
    })
    expect([code, stdout.toString(), stderr]).toEqual([
      1,
      '',
      `stowage check-storage: there is no directory ${root}: make it, or name another by --root\n`,
    ])
    expect(await readdir(folder)).toEqual([])
  })
})

describe('the report', () => {
  const named = (part: string): ContractCase => {
    const found = contractCases.find(({ name }) => name.includes(part))
    if (!found) throw new Error(`no case is named ${part}`)
    return found
  }
  const racing = { contractCase: named('who create one object at once'), problem: '2 of 32\nwon' }
  const leftover = {
    contractCase: named('what was written is read back'),
    problem: 'still listed after everything was removed: a/',
  }
  const fine = { contractCase: named('keys differ by case') }

  test('what failed has a meaning, each once; what holds has none', () => {
    expect(meaningsOf([fine])).toEqual([])
    expect(meaningsOf([racing, fine, racing])).toEqual([expect.stringContaining('no collection')])
  })

  test('every case belongs to a meaning', () => {
    for (const contractCase of contractCases) {
      expect(meaningsOf([{ contractCase, problem: 'failed' }])).toHaveLength(1)
    }
  })

  test('a folder that does not go away is about listings, not about what the case tried', () => {
    expect(meaningsOf([leftover])).toEqual([expect.stringContaining('Listings are not true')])
  })

  test('text: a line a case, the reason indented, then meanings and advice', () => {
    const lines: string[] = []
    const report = reportAsText((text) => lines.push(text))
    for (const result of [fine, racing]) report.result(result)
    report.end({ storage: 's3 images', results: [fine, racing], advice: ['Do this.'], isStopped: false })
    expect(lines.slice(0, 2)).toEqual([
      `ok      ${fine.contractCase.name}`,
      `FAILED  ${racing.contractCase.name}\n        2 of 32\n        won`,
    ])
    expect(lines[2]).toMatch(/^\ns3 images: 1 of 2 hold\nProcesses that use .*\nAdvice: Do this\.$/)
  })

  test('json: one object at the end', () => {
    const texts: string[] = []
    const report = reportAsJson((text) => texts.push(text))
    report.result(racing)
    report.end({ storage: 's3 images', results: [fine, racing], advice: ['Do this.'], isStopped: true })
    expect(texts.map((text) => JSON.parse(text) as unknown)).toEqual([
      {
        storage: 's3 images',
        ok: false,
        stopped: true,
        cases: [
          { name: fine.contractCase.name, ok: true },
          { name: racing.contractCase.name, ok: false, problem: '2 of 32\nwon' },
        ],
        meanings: [expect.stringContaining('no collection')],
        advice: ['Do this.'],
      },
    ])
  })
})
