/** Debian packages that a tier of tests needs: which are missing, and how they get here where that was asked for. */
import { spawn } from 'node:child_process'
import { createConnection } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** The port that a package's service would listen on if its installation started it. */
const portOfPackage: Readonly<Record<string, number>> = { 'docker-registry': 5000, nginx: 80 }

export async function missingPackages(packages: readonly string[]): Promise<string[]> {
  const missing: string[] = []
  for (const name of packages) if (!(await isInstalled(name))) missing.push(name)
  return missing
}

/**
 * Installs them, without what they only recommend and without starting their services.
 * @throws where apt does not succeed, or a service runs that did not run before
 */
export async function installPackages(packages: readonly string[]): Promise<void> {
  if (process.getuid?.() !== 0) throw new Error('installing packages needs root')
  const ports = packages.flatMap((name) => portOfPackage[name] ?? [])
  const busyBefore = new Set<number>()
  for (const port of ports) if (await isListening(port)) busyBefore.add(port)
  await updateOnce()
  await apt(['install', '-y', '--no-install-recommends', ...packages])
  for (const port of ports) {
    if (busyBefore.has(port) || !(await isListening(port))) continue
    throw new Error(`the installation of ${packages.join(' ')} started a service on port ${port}: stop it`)
  }
}

async function isInstalled(name: string): Promise<boolean> {
  const { code, output } = await command('dpkg-query', ['--show', '--showformat=${db:Status-Status}', name])
  return code === 0 && output === 'installed'
}

let updated: Promise<void> | undefined

function updateOnce(): Promise<void> {
  return (updated ??= apt(['update']))
}

const lockPatienceMs = 300_000

/** apt waits for dpkg's lock by itself, but not for the one on its package lists. */
async function apt(args: readonly string[]): Promise<void> {
  const deadline = Date.now() + lockPatienceMs
  for (;;) {
    const waiting = `DPkg::Lock::Timeout=${lockPatienceMs / 1000}`
    const { code, output } = await command('apt-get', ['-q', '-o', waiting, ...args])
    if (code === 0) return
    const isLocked = /could not get lock|unable to lock/i.test(output)
    if (!isLocked || Date.now() > deadline) throw new Error(`apt-get ${args.join(' ')} failed:\n${output}`)
    await delay(2_000)
  }
}

async function command(name: string, args: readonly string[]): Promise<{ code: number; output: string }> {
  const child = spawn(name, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    // invoke-rc.d starts nothing in runlevel 1.
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1', LC_ALL: 'C' },
  })
  let output = ''
  const keep = (chunk: Buffer) => (output += chunk.toString())
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  return new Promise((resolve) => {
    // No such command: not a Debian system.
    child.once('error', (error) => resolve({ code: 127, output: error.message }))
    child.once('close', (code) => resolve({ code: code ?? 1, output }))
  })
}

async function isListening(port: number): Promise<boolean> {
  const socket = createConnection({ port, host: '127.0.0.1' })
  return new Promise((resolve) => {
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}
