/** The settings of TLS, and the certificates that they mean. */
import { systemClock } from '../clock.ts'
import type { CertificateStore } from '../http/certificate-store.ts'
import { flagOf, type Conflict, type Settings, type ValuesOf } from '../settings.ts'
import { text } from '../settings-kinds.ts'
import type { Log } from '../telemetry/log.ts'
import { CommandFailed } from './command.ts'

const group = 'TLS (files are read again when they change):'
const file = text('<file>', /^[^\0]+$/, 'a PEM file')

export const tlsSettings = {
  tlsCert: {
    group,
    kind: file,
    help: "certificate (PEM): the server's own, then those that signed it; makes the server speak HTTPS",
  },
  tlsKey: { group, kind: file, help: 'key of --tls-cert (PEM, ECDSA or RSA, not encrypted)' },
  tlsSniCert: {
    group,
    kind: file,
    help: 'another certificate, for clients that ask for one of its names; all others get --tls-cert',
  },
  tlsSniKey: { group, kind: file, help: 'key of --tls-sni-cert' },
} as const satisfies Settings

type TlsValues = ValuesOf<typeof tlsSettings>

/** Each certificate has its key, and the second one a first. */
export function* checkTlsSettings(
  values: Partial<TlsValues>,
  isGiven: (key: keyof TlsValues) => boolean,
): Iterable<Conflict<typeof tlsSettings>> {
  const needs = [
    ['tlsCert', 'tlsKey', 'its key is needed too'],
    ['tlsKey', 'tlsCert', 'the certificate of that key is needed too'],
    ['tlsSniCert', 'tlsSniKey', 'its key is needed too'],
    ['tlsSniKey', 'tlsSniCert', 'the certificate of that key is needed too'],
    ['tlsSniCert', 'tlsCert', 'the certificate for all other clients is needed too'],
  ] as const
  for (const [key, other, problem] of needs) {
    if (isGiven(key) && values[key] !== undefined && !isGiven(other)) {
      yield { key, problem: `${problem}: ${flagOf(other)}` }
    }
  }
}

/**
 * Undefined where TLS was not asked for. Whoever opens them closes them.
 * @throws CommandFailed where a file cannot be used
 */
export async function openTlsCertificates(
  { tlsCert, tlsKey, tlsSniCert, tlsSniKey }: TlsValues,
  log: Log,
): Promise<CertificateStore | undefined> {
  const files = pair(tlsCert, tlsKey)
  if (files === undefined) return undefined
  const { openCertificates } = await import('../http/certificate-store.ts')
  const { CertificateRefused } = await import('../http/certificates.ts')
  try {
    return await openCertificates({ files, sni: pair(tlsSniCert, tlsSniKey), clock: systemClock, log })
  } catch (error) {
    if (!(error instanceof CertificateRefused)) throw error
    throw new CommandFailed(`TLS cannot begin: ${error.message}`, { cause: error })
  }
}

function pair(certificate: string | undefined, key: string | undefined) {
  return certificate === undefined || key === undefined ? undefined : { certificate, key }
}
