/** The certificates of a running server: one for everybody, one for external names; both follow their files. */
import type { X509Certificate } from 'node:crypto'
import { stat } from 'node:fs/promises'
import type { SecureContext, SecureContextOptions } from 'node:tls'
import { isNativeError } from 'node:util/types'
import type { Clock } from '../clock.ts'
import type { Log } from '../telemetry/log.ts'
import { loadCertificate, remarksOn, type CertificateFiles, type LoadedCertificate } from './certificates.ts'

export interface CertificateStoreOptions {
  /** For clients that name no host, as those that dial an IP address, and for all names that `sni` does not cover. */
  readonly files: CertificateFiles
  /** For clients that ask for one of its subject alternative names. */
  readonly sni?: CertificateFiles | undefined
  readonly clock: Clock
  readonly log: Log
  /** How often the files are looked at; default 1,500. */
  readonly pollMs?: number
}

export interface CertificateStore {
  /** Of the certificate for everybody, as it is now. */
  options(): SecureContextOptions
  /** What a client that asks for this name gets; undefined is the certificate for everybody. */
  contextFor(serverName: string): SecureContext | undefined
  /** A name that clients can use for this server, if the certificate for external names, or the other, holds one. */
  readonly name: string | undefined
  /** Called with the options of the certificate for everybody when it was read anew. */
  onReload(listener: (options: SecureContextOptions) => void): void
  close(): Promise<void>
}

/** @throws CertificateRefused where what the server should begin with cannot be used */
export async function openCertificates(options: CertificateStoreOptions): Promise<CertificateStore> {
  const { clock, pollMs = 1_500 } = options
  const main = await FollowedCertificate.open(options.files, options)
  const sni = options.sni && (await FollowedCertificate.open(options.sni, options))
  const listeners: ((options: SecureContextOptions) => void)[] = []
  const stop = new AbortController()

  const watch = async () => {
    while (!stop.signal.aborted) {
      await clock.sleep(pollMs, stop.signal).catch(() => undefined)
      await sni?.look()
      if (await main.look()) for (const listener of listeners) listener(main.current.options)
    }
  }
  const watching = watch()

  return {
    options: () => main.current.options,
    contextFor: (serverName) => {
      const external = sni?.current
      return external && isNamed(external.leaf, serverName) ? external.context : undefined
    },
    name: firstName(sni?.current.leaf) ?? firstName(main.current.leaf),
    onReload: (listener) => void listeners.push(listener),
    async close() {
      stop.abort()
      await watching
    },
  }
}

const dayMs = 86_400_000

/** The last usable certificate that two files held. A renewal writes one after the other: for a while they may not fit. */
class FollowedCertificate {
  /** @throws CertificateRefused */
  static async open(files: CertificateFiles, where: Pick<CertificateStoreOptions, 'clock' | 'log'>) {
    // Before they are read: what changes in between is seen at the next look.
    const state = await stateOf(files)
    return new FollowedCertificate(files, where, state, await loadCertificate(files))
  }

  current: LoadedCertificate
  readonly #files: CertificateFiles
  readonly #clock: Clock
  readonly #log: Log
  #loadedState: string
  #refusedState = ''
  #isRefusalLogged = false
  #remarkedAt = Number.NEGATIVE_INFINITY

  private constructor(
    files: CertificateFiles,
    { clock, log }: Pick<CertificateStoreOptions, 'clock' | 'log'>,
    state: string,
    loaded: LoadedCertificate,
  ) {
    this.#files = files
    this.#clock = clock
    this.#log = log
    this.#loadedState = state
    this.current = loaded
    this.#remark()
  }

  /** Whether there is a new one. */
  async look(): Promise<boolean> {
    const state = await stateOf(this.#files)
    const isNew = state !== this.#loadedState && (await this.#reload(state))
    this.#remark()
    return isNew
  }

  async #reload(state: string): Promise<boolean> {
    try {
      this.current = await loadCertificate(this.#files)
    } catch (error) {
      this.#refuse(state, error)
      return false
    }
    this.#loadedState = state
    this.#refusedState = ''
    this.#remarkedAt = Number.NEGATIVE_INFINITY
    this.#log.info(this.#particulars(), 'the certificate was read anew')
    return true
  }

  /** Only what still does not fit at the next look is worth a line. */
  #refuse(state: string, error: unknown): void {
    if (state !== this.#refusedState) this.#isRefusalLogged = false
    else if (!this.#isRefusalLogged) {
      const problem = isNativeError(error) ? error.message : String(error)
      this.#log.error(
        { ...this.#particulars(), problem },
        'the new certificate cannot be used: the last one stays',
      )
      this.#isRefusalLogged = true
    }
    this.#refusedState = state
  }

  /** Once a day. */
  #remark(): void {
    const now = this.#clock.now()
    if (now - this.#remarkedAt < dayMs) return
    this.#remarkedAt = now
    for (const line of remarksOn(this.current.leaf, now)) this.#log.warn(this.#particulars(), line)
  }

  #particulars(): object {
    return { file: this.#files.certificate, notAfter: this.current.leaf.validToDate.toISOString() }
  }
}

/** Changes with either file. Symbolic links are followed: Kubernetes swaps the folder that they lead through. */
async function stateOf({ certificate, key }: CertificateFiles): Promise<string> {
  const states = [certificate, key].map((path) =>
    stat(path, { bigint: true }).then(
      ({ dev, ino, size, mtimeNs }) => `${dev} ${ino} ${size} ${mtimeNs}`,
      () => 'none',
    ),
  )
  return (await Promise.all(states)).join()
}

function isNamed(leaf: X509Certificate, serverName: string): boolean {
  try {
    return leaf.checkHost(serverName, { subject: 'never' }) !== undefined
  } catch {
    // What a client sends need not be a name at all.
    return false
  }
}

function firstName(leaf: X509Certificate | undefined): string | undefined {
  return /(?:^|, )DNS:([^*,"]+)(?:,|$)/.exec(leaf?.subjectAltName ?? '')?.[1]
}
