/** The specification's own conformance suite, run against a registry, and what it found. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from '../support/processes.ts'
import { tool } from '../support/tools.ts'

export interface ConformanceResult {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  readonly disabled: number
  /** Each case that neither passed nor was left out, with what the suite says about it. */
  readonly failures: readonly string[]
}

export interface ConformanceOptions {
  /** Path of a PEM file with the authority that signed the server's certificate; without it there is no TLS. */
  readonly caFile?: string
  /** Who pushes, pulls and deletes; nobody in particular by default. */
  readonly login?: { readonly user: string; readonly password: string }
}

/**
 * Runs the suite of the specification's main branch, with everything in it that can be on.
 * @param registry host:port
 * @throws where the suite did not get to its end
 */
export async function runConformance(
  registry: string,
  { caFile, login }: ConformanceOptions = {},
): Promise<ConformanceResult> {
  const folder = await mkdtemp(join(tmpdir(), 'stowage-conformance-'))
  try {
    const env = {
      // Nothing of the caller's own settings, and no oci-conformance.yaml of this folder.
      ...Object.fromEntries(
        Object.keys(process.env)
          .filter((name) => name.startsWith('OCI_'))
          .map((name) => [name, undefined]),
      ),
      OCI_VERSION: 'dev',
      OCI_DATA_SPARSE: 'true',
      // Go's own variable: what it trusts instead of the system's authorities.
      ...(caFile === undefined ? { OCI_TLS: 'disabled' } : { OCI_TLS: 'enabled', SSL_CERT_FILE: caFile }),
      ...(login && { OCI_USERNAME: login.user, OCI_PASSWORD: login.password }),
      OCI_REGISTRY: registry,
      OCI_RESULTS_DIR: folder,
    }
    const ended = await run(await tool('conformance'), [], { env, cwd: folder, timeoutMs: 300_000 })
    const report = await readFile(join(folder, 'junit.xml'), 'utf8').catch(() => '')
    const result = { ...readCounts(ended.stdout.toString()), failures: readFailures(report) }
    // The suite says by its exit code whether all is well; it must agree with what we read.
    if ((ended.code === 0) === (result.failed === 0)) return result
    throw new Error(
      `conformance ended (${ended.signal ?? ended.code}) with ${result.failed} failed:\n${ended.stderr}`,
    )
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** The totals at the end of its output: `  Pass..........................:        847` */
function readCounts(output: string): Omit<ConformanceResult, 'failures'> {
  const count = (status: string): number => {
    const found = new RegExp(`^ +${status}\\.+: +(\\d+)$`, 'm').exec(output)?.[1]
    if (found === undefined) throw new Error(`conformance did not print its totals:\n${output.slice(-4000)}`)
    return Number(found)
  }
  const result = {
    passed: count('Pass'),
    failed: count('FAIL') + count('Error'),
    skipped: count('Skip'),
    disabled: count('Disabled'),
  }
  const sum = result.passed + result.failed + result.skipped + result.disabled
  if (sum !== count('Total')) throw new Error(`conformance counts ${count('Total')} cases, ${sum} were read`)
  return result
}

/** The cases of its JUnit report that failed. system-err, which holds each request and answer, is left out. */
function readFailures(report: string): string[] {
  const testCase = /<testcase name="([^"]*)"[^>]*status="(failure|error)"[^>]*>([^]*?)<\/testcase>/g
  return [...report.matchAll(testCase)].map(([, name = '', status, body = '']) => {
    const said = /<system-out>([^]*?)<\/system-out>/.exec(body)?.[1] ?? status ?? ''
    return `${decodeXml(name)}: ${decodeXml(said)}`
  })
}

function decodeXml(text: string): string {
  const named: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }
  return text.replaceAll(
    /&(?:#x([0-9A-F]+)|#(\d+)|(\w+));/gi,
    (whole, hex?: string, decimal?: string, name?: string) => {
      if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16))
      if (decimal !== undefined) return String.fromCodePoint(Number(decimal))
      return named[name ?? ''] ?? whole
    },
  )
}
