/** A certificate and its key, as files: what is wrong with them, said in a sentence, and what TLS makes of them. */
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls'
import { isNativeError } from 'node:util/types'

export interface CertificateFiles {
  /** Path of a PEM file: the server's own certificate first, then those that lead to its authority. */
  readonly certificate: string
  /** Path of a PEM file: the key of the first certificate, ECDSA or RSA, not encrypted. */
  readonly key: string
}

export interface LoadedCertificate {
  readonly leaf: X509Certificate
  readonly options: SecureContextOptions
  readonly context: SecureContext
}

/** The files hold no certificate and key that a server could use. The message names the file and what to do. */
export class CertificateRefused extends Error {
  override readonly name = 'CertificateRefused'
}

/**
 * TLS 1.2 at least, with forward secrecy and authenticated ciphers alone: what every client of a registry has had for
 * years. AES-128 first: it is the fastest for large bodies.
 */
const protocol = {
  minVersion: 'TLSv1.2',
  honorCipherOrder: true,
  ciphers: [
    'TLS_AES_128_GCM_SHA256',
    'TLS_AES_256_GCM_SHA384',
    'TLS_CHACHA20_POLY1305_SHA256',
    'ECDHE-ECDSA-AES128-GCM-SHA256',
    'ECDHE-RSA-AES128-GCM-SHA256',
    'ECDHE-ECDSA-AES256-GCM-SHA384',
    'ECDHE-RSA-AES256-GCM-SHA384',
    'ECDHE-ECDSA-CHACHA20-POLY1305',
    'ECDHE-RSA-CHACHA20-POLY1305',
  ].join(':'),
} as const satisfies SecureContextOptions

/** @throws CertificateRefused */
export async function loadCertificate(files: CertificateFiles): Promise<LoadedCertificate> {
  const [certificateText, keyText] = await Promise.all([readText(files.certificate), readText(files.key)])
  const [leaf, ...issuers] = parseCertificates(files.certificate, certificateText)
  const key = parseKey(files.key, keyText)
  if (!leaf.checkPrivateKey(key)) {
    const isReversed = issuers.some((issuer) => issuer.checkPrivateKey(key))
    throw new CertificateRefused(
      isReversed
        ? `${files.certificate} does not begin with the certificate of the key ${files.key}: the server's own comes first, then those that signed it`
        : `the certificate in ${files.certificate} is not the one of the key in ${files.key}`,
    )
  }
  const options = { ...protocol, cert: certificateText, key: keyText }
  try {
    return { leaf, options, context: createSecureContext(options) }
  } catch (error) {
    throw refusal(`${files.certificate} and ${files.key} are refused by OpenSSL`, error)
  }
}

const dayMs = 86_400_000
const warnedDays = 14

/** What a person should know of a certificate that works, or will not for long. */
export function remarksOn(leaf: X509Certificate, nowMs: number): string[] {
  const remarks: string[] = []
  const leftMs = leaf.validToDate.getTime() - nowMs
  if (leftMs <= 0) remarks.push('the certificate has expired: clients refuse it')
  else if (leftMs <= warnedDays * dayMs) remarks.push('the certificate expires soon')
  if (leaf.validFromDate.getTime() > nowMs)
    remarks.push('the certificate is not valid yet: clients refuse it')
  // Names in the subject alone have been ignored by Go's clients since 2020.
  if (leaf.subjectAltName === undefined) {
    remarks.push('the certificate has no subject alternative names: clients refuse it')
  }
  return remarks
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw refusal(`${path} cannot be read`, error)
  }
}

type Chain = [leaf: X509Certificate, ...issuers: X509Certificate[]]

function parseCertificates(path: string, text: string): Chain {
  const blocks = text.match(/-----BEGIN CERTIFICATE-----[^]*?-----END CERTIFICATE-----/g) ?? []
  const [leaf, ...issuers] = blocks.map((block, index) => {
    try {
      return new X509Certificate(block)
    } catch (error) {
      throw refusal(`certificate ${index + 1} of ${path} is broken`, error)
    }
  })
  if (leaf === undefined) throw new CertificateRefused(`${path} holds no certificate in PEM`)
  return [leaf, ...issuers]
}

function parseKey(path: string, text: string): KeyObject {
  if (!/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text)) {
    throw new CertificateRefused(`${path} holds no private key in PEM`)
  }
  if (/^-----BEGIN ENCRYPTED PRIVATE KEY|^Proc-Type: 4,ENCRYPTED/m.test(text)) {
    throw new CertificateRefused(
      `the key in ${path} is encrypted, and the server has no passphrase: decrypt it with openssl pkey`,
    )
  }
  try {
    return createPrivateKey(text)
  } catch (error) {
    throw refusal(`the key in ${path} is broken`, error)
  }
}

function refusal(what: string, cause: unknown): CertificateRefused {
  const why = isNativeError(cause) ? cause.message : String(cause)
  return new CertificateRefused(`${what}: ${why}`, { cause })
}
