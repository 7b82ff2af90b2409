/**
 * All tests, cheapest first, in tiers: `npm test`. A tier runs where what it needs is here or can be had; what did not
 * run is named at the end, with the command that would run it. The last line is `N passed, N failed`.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import type { Counts } from './support/count-reporter.ts'
import { installPackages, missingPackages } from './support/debian.ts'
import { tool, type ToolName } from './support/tools.ts'

interface Tier {
  readonly about: string
  /** Globs below test/. */
  readonly files: readonly string[]
  /** Files that share a server, or measure, run one after the other. */
  readonly workers: number
  /** Go programs of test/tools, and Debian packages. */
  readonly tools: readonly ToolName[]
  readonly packages: readonly string[]
  /** Its programs mount, or are daemons of root. */
  readonly needsRoot?: true
}

const tiers = {
  check: {
    about: 'units, properties, in-process HTTP, the driver contract on memory and filesystem',
    files: ['architecture.test.ts', 'unit/**/*.test.ts', 'http/**/*.test.ts', 'contract/**/*.test.ts'],
    workers: 2,
    tools: [],
    packages: [],
  },
  commands: {
    about: 'the command line and the server, as processes of their own',
    files: ['commands/**/*.test.ts'],
    workers: 2,
    tools: [],
    packages: [],
  },
  conformance: {
    about: "the specification's conformance suite on memory, filesystem and S3, and over TLS",
    files: ['conformance/**/*.test.ts'],
    workers: 1,
    tools: ['conformance', 'minio'],
    packages: [],
  },
  clients: {
    about: 'real clients against the server',
    files: ['clients/*.test.ts'],
    workers: 1,
    tools: ['crane', 'oras', 'oras-resume', 'helm', 'cosign', 'ko', 'minio'],
    packages: [],
  },
  engines: {
    about: 'container engines against the server, as root',
    files: ['clients/engines/*.test.ts'],
    workers: 1,
    tools: ['containerd', 'ctr', 'minio'],
    packages: ['skopeo', 'buildah', 'containerd', 'docker.io', 'runc'],
    needsRoot: true,
  },
  proxy: {
    about: 'behind a real nginx, with TLS and passwords',
    files: ['proxy/**/*.test.ts'],
    workers: 1,
    tools: ['crane'],
    packages: ['nginx'],
  },
  s3: {
    about: 'the S3 driver on real S3 servers',
    files: ['s3/**/*.test.ts'],
    workers: 1,
    tools: ['minio', 'versitygw'],
    packages: [],
  },
  interop: {
    about: 'buckets shared with distribution 3 and 2.8, both ways',
    files: ['interop/**/*.test.ts'],
    workers: 1,
    tools: ['registry', 'crane', 'minio'],
    packages: ['docker-registry'],
  },
  faults: {
    about: 'killed servers, failing storage, two servers on one bucket',
    files: ['faults/**/*.test.ts'],
    workers: 1,
    tools: ['minio'],
    packages: [],
  },
  image: {
    about: 'the container image: built, looked through, and run',
    files: ['image/**/*.test.ts'],
    workers: 1,
    tools: ['crane', 'minio'],
    packages: ['binutils', 'buildah', 'qemu-user-static', 'runc'],
    needsRoot: true,
  },
} as const satisfies Record<string, Tier>

type TierName = keyof typeof tiers
const tierNames = Object.keys(tiers) as TierName[]

const usage = `npm test -- [--install] [TIER...] [-- ARGUMENTS OF JEST]

  --check     the first tier alone: no Go, no root, under a minute
  --install   install the Debian packages that are missing (as root)
  --help

Tiers, in their order; all of them where none is named:
${tierNames.map((name) => `  ${name.padEnd(12)}${tiers[name].about}`).join('\n')}

With CI=true packages are installed, and a tier that cannot run is a failure.
`

interface Plan {
  readonly names: readonly TierName[]
  readonly mayInstall: boolean
  readonly isCi: boolean
  readonly jestArguments: readonly string[]
}

type Outcome =
  | { readonly name: TierName; readonly seconds: number; readonly counts: Counts }
  | { readonly name: TierName; readonly missing: string; readonly command: string }

async function main(args: readonly string[]): Promise<number> {
  const plan = parsePlan(args)
  if (typeof plan === 'string') {
    const isHelp = plan === usage
    process[isHelp ? 'stdout' : 'stderr'].write(plan)
    return isHelp ? 0 : 2
  }
  const outcomes: Outcome[] = []
  try {
    for (const name of plan.names) outcomes.push(await runTier(name, plan))
  } catch (error) {
    if (error instanceof Interrupted) return 130
    throw error
  }
  return report(outcomes, plan)
}

class Interrupted extends Error {}

/** What to run, or what to say instead. */
function parsePlan(args: readonly string[]): Plan | string {
  const dashes = args.indexOf('--')
  const own = dashes < 0 ? args : args.slice(0, dashes)
  const options = {
    check: { type: 'boolean' },
    install: { type: 'boolean' },
    help: { type: 'boolean' },
  } as const
  try {
    const { values, positionals } = parseArgs({ args: [...own], options, allowPositionals: true })
    if (values.help) return usage
    const isCi = process.env['CI'] === 'true'
    return {
      names: chooseTiers(values.check ? ['check'] : positionals),
      mayInstall: values.install ?? (isCi && process.getuid?.() === 0),
      isCi,
      jestArguments: dashes < 0 ? [] : args.slice(dashes + 1),
    }
  } catch (error) {
    return `${messageOf(error)}\n\n${usage}`
  }
}

function chooseTiers(named: readonly string[]): readonly TierName[] {
  const unknown = named.find((name) => !Object.hasOwn(tiers, name))
  if (unknown !== undefined) throw new Error(`no tier is called ${unknown}`)
  return named.length === 0 ? tierNames : tierNames.filter((name) => named.includes(name))
}

async function runTier(name: TierName, plan: Plan): Promise<Outcome> {
  console.log(`\n=== ${name}: ${tiers[name].about}`)
  const missing = missingRoot(name) ?? (await providePackages(name, plan)) ?? (await provideTools(name))
  if (missing !== undefined) {
    console.log(`not run: ${missing.missing}`)
    return { name, ...missing }
  }
  const started = performance.now()
  const counts = await runJest(tiers[name], plan.jestArguments)
  const seconds = (performance.now() - started) / 1000
  console.log(`=== ${name}: ${seconds.toFixed(1)} s`)
  return { name, seconds, counts }
}

interface Missing {
  readonly missing: string
  readonly command: string
}

function missingRoot(name: TierName): Missing | undefined {
  const tier: Tier = tiers[name]
  if (!tier.needsRoot || process.getuid?.() === 0) return undefined
  return { missing: 'root', command: `npm test -- ${name}   (as root)` }
}

async function providePackages(name: TierName, plan: Plan): Promise<Missing | undefined> {
  const packages = await missingPackages(tiers[name].packages)
  if (packages.length === 0) return undefined
  const command = `npm test -- --install ${name}`
  if (!plan.mayInstall) return { missing: `Debian: ${packages.join(' ')}`, command: `${command}   (as root)` }
  console.log(`installing ${packages.join(' ')}`)
  try {
    await installPackages(packages)
    return undefined
  } catch (error) {
    return { missing: messageOf(error), command }
  }
}

/** Builds them before the tests, so that a test's time is its own. */
async function provideTools(name: TierName): Promise<Missing | undefined> {
  try {
    for (const needed of tiers[name].tools) await tool(needed)
    return undefined
  } catch (error) {
    const command = `npm test -- ${name}`
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return { missing: messageOf(error), command }
    return {
      missing: `Go, to build ${tiers[name].tools.join(', ')}`,
      command: `${command}   (with go on the PATH)`,
    }
  }
}

const root = fileURLToPath(new URL('..', import.meta.url))

async function runJest(tier: Tier, more: readonly string[]): Promise<Counts> {
  const folder = await mkdtemp(join(tmpdir(), 'stowage-test-'))
  const countsFile = join(folder, 'counts.json')
  const args = [
    '--experimental-vm-modules',
    '--disable-warning=ExperimentalWarning',
    join(root, 'node_modules/jest/bin/jest.js'),
    ...tier.files.map((glob) => `--testMatch=<rootDir>/test/${glob}`),
    '--reporters=default',
    '--reporters=<rootDir>/test/support/count-reporter.ts',
    // After the lists: jest would take what follows a list for more of it.
    ...(tier.workers === 1 ? ['--runInBand'] : [`--maxWorkers=${tier.workers}`]),
    ...more,
  ]
  const env = { ...process.env, STOWAGE_TEST_COUNTS: countsFile }
  try {
    const code = await runToEnd(args, env)
    const counts = await readFile(countsFile, 'utf8').then(
      (text) => JSON.parse(text) as Counts,
      () => ({ passed: 0, failed: 0, skipped: 0 }),
    )
    // Whatever made jest fail (no tests found, a crash) is a failure, also where no test of it was counted.
    return code === 0 ? counts : { ...counts, failed: Math.max(counts.failed, 1) }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** @throws Interrupted where somebody wants us to stop: jest is told, and has ended by then */
async function runToEnd(args: readonly string[], env: NodeJS.ProcessEnv): Promise<number | null> {
  const child = spawn(process.execPath, args, { cwd: root, env, stdio: 'inherit' })
  let isInterrupted = false
  const interrupt = (signal: NodeJS.Signals) => {
    isInterrupted = true
    child.kill(signal)
  }
  process.on('SIGINT', interrupt).on('SIGTERM', interrupt)
  const [code] = (await once(child, 'exit')) as [number | null]
  process.off('SIGINT', interrupt).off('SIGTERM', interrupt)
  if (isInterrupted) throw new Interrupted()
  return code
}

/** Prints what ran and what did not, the counts last; gives the exit code. */
function report(outcomes: readonly Outcome[], plan: Plan): number {
  const total = { passed: 0, failed: 0, skipped: 0 }
  console.log('')
  for (const outcome of outcomes) {
    if ('missing' in outcome) continue
    const { counts, name, seconds } = outcome
    console.log(`${name.padEnd(12)} ${seconds.toFixed(1).padStart(7)} s   ${sentence(counts)}`)
    for (const key of ['passed', 'failed', 'skipped'] as const) total[key] += counts[key]
  }
  for (const outcome of outcomes) {
    if (!('missing' in outcome)) continue
    console.log(
      `${outcome.name.padEnd(12)} did not run: ${outcome.missing}\n${''.padEnd(13)}to run it: ${outcome.command}`,
    )
    // With CI=true nothing may be missing.
    if (plan.isCi) total.failed += 1
  }
  console.log(`\n${sentence(total)}`)
  return total.failed > 0 ? 1 : 0
}

function sentence({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

process.exitCode = await main(process.argv.slice(2))
