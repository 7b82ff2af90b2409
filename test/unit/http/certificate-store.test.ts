import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { X509Certificate } from 'node:crypto'
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openCertificates, type CertificateStore } from '../../../src/http/certificate-store.ts'
import type { CertificateFiles } from '../../../src/http/certificates.ts'
import { createLog } from '../../../src/telemetry/log.ts'
import { createAuthority, writeCertificate, type TestCertificate } from '../../support/certificates.ts'
import { manualClock } from '../../support/manual-clock.ts'
import { until } from '../../support/registry.ts'

const dayMs = 86_400_000
const authority = await createAuthority()
const first = await authority.issue(['first.example.org'])
const second = await authority.issue(['second.example.org'], { kind: 'rsa' })

interface Line {
  readonly level: string
  readonly msg: string
  readonly problem?: string
}

let folder = ''
let store: CertificateStore
let lines: Line[]
let sleeps: number
let clock: ReturnType<typeof manualClock>

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stowage-store-'))
  lines = []
  sleeps = 0
  clock = manualClock(Date.now())
})
afterEach(async () => {
  await store.close()
  await rm(folder, { recursive: true })
})

async function open(files: CertificateFiles, sni?: CertificateFiles): Promise<void> {
  const destination = { write: (line: string) => lines.push(JSON.parse(line) as Line) }
  const log = createLog({ level: 'debug', format: 'json', destination })
  const sleep: typeof clock.sleep = (ms, signal) => {
    sleeps++
    return clock.sleep(ms, signal)
  }
  store = await openCertificates({ files, sni, clock: { ...clock, sleep }, log, pollMs: 1_000 })
}

/** Lets the store look at its files once. */
async function look(afterMs = 1_000): Promise<void> {
  const before = sleeps
  clock.advance(afterMs)
  await until(() => sleeps > before)
}

function nameNow(): string | undefined {
  return new X509Certificate(String(store.options().cert)).subjectAltName
}

const said = () => lines.map(({ level, msg }) => `${level} ${msg}`)

describe('files that change', () => {
  test('in place: the new pair serves, and who listens is told once', async () => {
    const files = await writeCertificate(folder, 'tls', first)
    await open(files)
    let reloads = 0
    store.onReload(() => reloads++)
    await look()
    expect([nameNow(), reloads]).toEqual(['DNS:first.example.org', 0])

    await writeCertificate(folder, 'tls', second)
    await look()
    await look()
    expect([nameNow(), reloads]).toEqual(['DNS:second.example.org', 1])
    expect(said()).toEqual(['info the certificate was read anew'])
  })

  test('as Kubernetes changes them: a link to a folder is swapped', async () => {
    const write = async (name: string, pair: TestCertificate) => {
      await mkdir(join(folder, name))
      await writeCertificate(join(folder, name), 'tls', pair)
      await symlink(name, join(folder, '..data_tmp'))
      await rename(join(folder, '..data_tmp'), join(folder, '..data'))
    }
    await write('..2026_1', first)
    for (const name of ['tls.crt', 'tls.key']) await symlink(`..data/${name}`, join(folder, name))
    await open({ certificate: join(folder, 'tls.crt'), key: join(folder, 'tls.key') })
    await write('..2026_2', second)
    await rm(join(folder, '..2026_1'), { recursive: true })
    await look()
    expect(nameNow()).toBe('DNS:second.example.org')
  })

  test('one after the other: nothing is said of the moment in between', async () => {
    const files = await writeCertificate(folder, 'tls', first)
    await open(files)
    await writeFile(files.certificate, second.chain)
    await look()
    expect(nameNow()).toBe('DNS:first.example.org')
    await writeFile(files.key, second.key)
    await look()
    expect(nameNow()).toBe('DNS:second.example.org')
    expect(said()).toEqual(['info the certificate was read anew'])
  })

  test.each<[string, (files: CertificateFiles) => Promise<void>, string]>([
    ['a key of another', ({ key }) => writeFile(key, second.key), 'is not the one of the key in'],
    ['a broken file', ({ certificate }) => writeFile(certificate, 'broken'), 'holds no certificate in PEM'],
    ['a file that is gone', ({ key }) => rm(key), 'cannot be read: ENOENT'],
  ])('%s: the last good pair stays, which is said once', async (_, spoil, problem) => {
    const files = await writeCertificate(folder, 'tls', first)
    await open(files)
    await spoil(files)
    for (let looks = 0; looks < 4; looks++) await look()
    expect(nameNow()).toBe('DNS:first.example.org')
    expect(said()).toEqual(['error the new certificate cannot be used: the last one stays'])
    expect(lines[0]?.problem).toContain(problem)

    await writeCertificate(folder, 'tls', second)
    await look()
    expect(nameNow()).toBe('DNS:second.example.org')
  })
})

describe('a certificate for external names', () => {
  test('is for its own names alone, wildcards among them, and follows its files too', async () => {
    const external = await authority.issue(['registry.example.org', '*.apps.example.org'])
    const sni = await writeCertificate(folder, 'sni', external)
    await open(await writeCertificate(folder, 'tls', first), sni)
    const before = store.contextFor('registry.example.org')
    expect(before).toBeDefined()
    expect(store.contextFor('a.apps.example.org')).toBe(before)
    expect(store.contextFor('REGISTRY.example.ORG')).toBe(before)
    for (const name of ['first.example.org', 'example.org', 'a.b.apps.example.org', 'a\0b', '']) {
      expect(store.contextFor(name)).toBeUndefined()
    }
    expect(store.name).toBe('registry.example.org')

    await writeCertificate(folder, 'sni', await authority.issue(['other.example.org']))
    await look()
    expect(store.contextFor('registry.example.org')).toBeUndefined()
    expect(store.contextFor('other.example.org')).toBeDefined()
    expect(nameNow()).toBe('DNS:first.example.org')
  })

  test('has to be usable at the start', async () => {
    const files = await writeCertificate(folder, 'tls', first)
    await open(files)
    const sni = { certificate: files.certificate, key: join(folder, 'none.key') }
    const other = openCertificates({ files, sni, clock, log: createLog({ level: 'error' }) })
    await expect(other).rejects.toThrow('none.key cannot be read')
  })
})

describe('the end of a certificate', () => {
  test('is announced from 14 days before, once a day, and not of its successor', async () => {
    const files = await writeCertificate(folder, 'tls', await ending(16))
    await open(files)
    const days: number[] = []
    for (let halfDay = 0; halfDay < 12; halfDay++) {
      await look(dayMs / 2)
      if (lines.splice(0).length > 0) days.push(halfDay / 2)
    }
    expect(days).toEqual([1.5, 2.5, 3.5, 4.5, 5.5])

    await writeCertificate(folder, 'tls', await ending(90))
    await look()
    await look(dayMs)
    expect(said()).toEqual(['info the certificate was read anew'])
  })

  test('does not keep a server from starting', async () => {
    await open(await writeCertificate(folder, 'tls', await ending(-1)))
    expect(said()).toEqual(['warn the certificate has expired: clients refuse it'])
  })

  function ending(inDays: number): Promise<TestCertificate> {
    const notBefore = new Date(Date.now() - 30 * dayMs)
    return authority.issue(['a.example.org'], { notBefore, notAfter: new Date(Date.now() + inDays * dayMs) })
  }
})
