import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadCertificate, remarksOn } from '../../../src/http/certificates.ts'
import { createAuthority, writeCertificate, type TestCertificate } from '../../support/certificates.ts'

let folder = ''
const authority = await createAuthority()
const good = await authority.issue(['registry.example.org'])

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stowage-certificates-'))
})
afterAll(() => rm(folder, { recursive: true }))

async function load(pair: TestCertificate) {
  return loadCertificate(await writeCertificate(folder, 'tls', pair))
}

describe('what a server can use', () => {
  test.each(['ecdsa', 'rsa'] as const)('a certificate and its key: %s', async (kind) => {
    const { leaf } = await load(await authority.issue(['a.example.org'], { kind }))
    expect(leaf.subjectAltName).toBe('DNS:a.example.org')
  })

  test.each([
    ['PKCS #8', 'pkcs8'],
    ['SEC 1', 'sec1'],
  ] as const)('a key as %s', async (_, type) => {
    const key = createPrivateKey(good.key).export({ type, format: 'pem' }).toString()
    expect((await load({ ...good, key })).leaf.subjectAltName).toBe('DNS:registry.example.org')
  })

  test('a chain, with text around its certificates', async () => {
    const { chain, key } = await (await authority.issueAuthority()).issue(['b.example.org'])
    const { leaf } = await load({ chain: `subject=the first\n${chain}\nthe end\n`, key })
    expect(leaf.subjectAltName).toBe('DNS:b.example.org')
  })
})

describe('what is refused, in a sentence that names the file', () => {
  test('files that are not there', async () => {
    const files = await writeCertificate(folder, 'tls', good)
    const none = join(folder, 'none.pem')
    await expect(loadCertificate({ ...files, certificate: none })).rejects.toThrow(
      `${none} cannot be read: ENOENT`,
    )
    await expect(loadCertificate({ ...files, key: none })).rejects.toThrow(`${none} cannot be read: ENOENT`)
  })

  test('a certificate and a key that do not belong together', async () => {
    const { key } = await authority.issue(['other.example.org'])
    await expect(load({ ...good, key })).rejects.toThrow(
      `the certificate in ${folder}/tls.crt is not the one of the key in ${folder}/tls.key`,
    )
  })

  test('a chain whose first certificate is not the own one', async () => {
    await expect(load({ ...good, chain: authority.certificate + good.chain })).rejects.toThrow(
      `${folder}/tls.crt does not begin with the certificate of the key ${folder}/tls.key`,
    )
  })

  test.each([
    ['PKCS #8', 'pkcs8'],
    ['SEC 1', 'sec1'],
  ] as const)('an encrypted key, as %s', async (_, type) => {
    const options = { type, format: 'pem', cipher: 'aes-256-cbc', passphrase: 'secret' } as const
    const key = createPrivateKey(good.key).export(options).toString()
    await expect(load({ ...good, key })).rejects.toThrow(
      `the key in ${folder}/tls.key is encrypted, and the server has no passphrase`,
    )
  })

  test('files of something else', async () => {
    await expect(load({ ...good, chain: 'hello' })).rejects.toThrow('tls.crt holds no certificate in PEM')
    await expect(load({ ...good, key: 'hello' })).rejects.toThrow('tls.key holds no private key in PEM')
    await expect(load({ chain: good.key, key: good.chain })).rejects.toThrow(
      'tls.crt holds no certificate in PEM',
    )
  })

  test('files that are broken in the middle', async () => {
    const brokenKey = good.key.replace(/\n.{10}/, '\nMAAAAAAAAA')
    await expect(load({ ...good, key: brokenKey })).rejects.toThrow('the key in')
    const second = good.chain.replace(/\n.{10}/, '\nMAAAAAAAAA')
    await expect(load({ ...good, chain: good.chain + second })).rejects.toThrow('certificate 2 of')
  })

  test('what it says holds nothing of the key', async () => {
    const brokenKey = good.key.replace(/\n.{10}/, '\nMAAAAAAAAA')
    const lines = brokenKey.split('\n').filter((line) => line.length > 20 && !line.startsWith('-----'))
    const error = await load({ ...good, key: brokenKey }).catch((reason: Error) => reason)
    for (const line of lines) expect(String(error)).not.toContain(line)
  })

  test('a key that OpenSSL finds too weak', async () => {
    const weak = await authority.issue(['weak.example.org'], { kind: 'weak rsa' })
    await expect(load(weak)).rejects.toThrow(/are refused by OpenSSL: .*key too small/)
  })
})

describe('what a person should know', () => {
  const now = Date.UTC(2026, 5, 1)
  const dayMs = 86_400_000
  const remarks = async (names: string[], fromDays: number, toDays: number) => {
    const times = { notBefore: new Date(now + fromDays * dayMs), notAfter: new Date(now + toDays * dayMs) }
    const { chain } = await authority.issue(names, times)
    return remarksOn(new X509Certificate(chain), now)
  }

  test.each([
    ['nothing of one that is good for 15 days', -1, 15, []],
    ['one that ends within 14 days', -1, 14, ['the certificate expires soon']],
    ['one that has ended', -2, -1, ['the certificate has expired: clients refuse it']],
    ['one that has not begun', 1, 90, ['the certificate is not valid yet: clients refuse it']],
  ])('%s', async (_, from, to, expected) => {
    expect(await remarks(['a.example.org'], from, to)).toEqual(expected)
  })

  test('one that names no host but in its subject', async () => {
    expect(await remarks([], -1, 90)).toEqual([
      'the certificate has no subject alternative names: clients refuse it',
    ])
  })
})
