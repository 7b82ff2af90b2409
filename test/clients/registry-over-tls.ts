/** A registry behind a certificate of an authority that nobody trusts yet. */
import { createAuthority, writeCertificate } from '../support/certificates.ts'
import { startStowage, type Stowage } from '../support/stowage.ts'
import type { ClientFolder } from './client-folder.ts'

export interface RegistryOverTls extends Stowage {
  /** The path of the authority's certificate, called ca.crt. */
  readonly authority: string
}

export async function startRegistryOverTls(folder: ClientFolder): Promise<RegistryOverTls> {
  const authority = await createAuthority()
  const tls = await writeCertificate(folder.path, 'tls', await authority.issue(['127.0.0.1']))
  const args = ['--storage', 'memory', '--tls-cert', tls.certificate, '--tls-key', tls.key]
  const server = await startStowage(args)
  return { ...server, authority: await folder.file('ca.crt', authority.certificate) }
}
