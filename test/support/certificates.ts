/** Certificates for tests, made when they run: an authority of their own, and what it signs. No key is ever a file here. */
import 'reflect-metadata'
import {
  BasicConstraintsExtension,
  type Extension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from '@peculiar/x509'
import { KeyObject, randomBytes, webcrypto } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'

export interface TestCertificate {
  /** PEM: the certificate, and behind it those that lead to the authority, without the authority itself. */
  readonly chain: string
  /** PEM, PKCS #8. */
  readonly key: string
}

export interface CertificateOptions {
  readonly kind?: 'ecdsa' | 'rsa' | 'weak rsa'
  readonly notBefore?: Date
  readonly notAfter?: Date
}

export interface TestAuthority {
  /** PEM, for those who are to trust it. */
  readonly certificate: string
  /** @param names DNS names, wildcards among them, and IP addresses */
  issue(names: readonly string[], options?: CertificateOptions): Promise<TestCertificate>
  /** An authority that this one signed: what it issues comes with its own certificate in the chain. */
  issueAuthority(): Promise<TestAuthority>
}

/** As the two files that a server is given. */
export async function writeCertificate(
  folder: string,
  name: string,
  { chain, key }: TestCertificate,
): Promise<{ certificate: string; key: string }> {
  const files = { certificate: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) }
  await writeFile(files.certificate, chain)
  await writeFile(files.key, key, { mode: 0o600 })
  return files
}

type Kind = NonNullable<CertificateOptions['kind']>

interface Signer {
  readonly subject: string
  readonly keys: webcrypto.CryptoKeyPair
}

const rsa = { name: 'RSASSA-PKCS1-v1_5', publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }
const algorithms = {
  ecdsa: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
  rsa: { ...rsa, modulusLength: 2048 },
  'weak rsa': { ...rsa, modulusLength: 1024 },
} as const satisfies Record<Kind, object>

const dayMs = 86_400_000

export async function createAuthority(): Promise<TestAuthority> {
  const signer = await newSigner()
  return authorityOf(signer, await sign(signer, signer, authorityExtensions()), '')
}

function authorityOf(signer: Signer, certificate: string, intermediates: string): TestAuthority {
  return {
    certificate,
    async issue(names, { kind = 'ecdsa', ...times } = {}) {
      const keys = await newKeys(kind)
      const leaf = await sign({ subject: 'CN=leaf', keys }, signer, leafExtensions(names), times)
      const key = KeyObject.from(keys.privateKey).export({ type: 'pkcs8', format: 'pem' }).toString()
      return { chain: leaf + intermediates, key }
    },
    async issueAuthority() {
      const below = await newSigner()
      const own = await sign(below, signer, authorityExtensions())
      return authorityOf(below, own, own + intermediates)
    },
  }
}

async function newSigner(): Promise<Signer> {
  return { subject: `CN=authority ${randomBytes(4).toString('hex')}`, keys: await newKeys('ecdsa') }
}

async function newKeys(kind: Kind): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(algorithms[kind], true, ['sign', 'verify'])
}

function authorityExtensions() {
  return [
    new BasicConstraintsExtension(true, undefined, true),
    new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
  ]
}

function leafExtensions(names: readonly string[]) {
  const general = names.map((name) => ({
    type: isIP(name) ? ('ip' as const) : ('dns' as const),
    value: name,
  }))
  return [
    new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
    ...(general.length > 0 ? [new SubjectAlternativeNameExtension(general)] : []),
  ]
}

async function sign(
  whose: Signer,
  signer: Signer,
  extensions: Extension[],
  times: Pick<CertificateOptions, 'notBefore' | 'notAfter'> = {},
): Promise<string> {
  const certificate = await X509CertificateGenerator.create({
    serialNumber: `01${randomBytes(8).toString('hex')}`,
    subject: whose.subject,
    issuer: signer.subject,
    publicKey: whose.keys.publicKey,
    signingKey: signer.keys.privateKey,
    signingAlgorithm: { name: signer.keys.privateKey.algorithm.name, hash: 'SHA-256' },
    notBefore: times.notBefore ?? new Date(Date.now() - dayMs),
    notAfter: times.notAfter ?? new Date(Date.now() + 90 * dayMs),
    extensions,
  })
  return `${certificate.toString('pem')}\n`
}
