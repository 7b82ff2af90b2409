/**
 * The Go programs that tests run against, each a module of its own under test/tools/: the programs that its go.mod names
 * as tools, or a main package of ours. They are built once into a cache of the user, named by what go.mod, go.sum and
 * the source of ours say, and found there by every later run.
 */
import { spawn } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { access, mkdir, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setTimeout as delay } from 'node:timers/promises'

const moduleOf = {
  crane: 'crane',
  oras: 'oras',
  'oras-resume': 'oras-resume',
  helm: 'helm',
  cosign: 'cosign',
  ko: 'ko',
  containerd: 'containerd',
  ctr: 'containerd',
  conformance: 'conformance',
  minio: 'minio',
  versitygw: 'versitygw',
  registry: 'distribution',
} as const satisfies Record<string, string>

export type ToolName = keyof typeof moduleOf

/**
 * The path of a program, which is built first if it never was. STOWAGE_TOOLS_DIR names a folder of built ones that
 * is looked into before the cache.
 * @throws where it has to be built and cannot
 */
export async function tool(name: ToolName): Promise<string> {
  const found = await findTool(name)
  if (found !== undefined) return found
  const folder = await cacheFolder(name)
  await mkdir(join(folder, '..'), { recursive: true })
  const release = await lock(`${folder}.lock`, name)
  try {
    return (await findTool(name)) ?? (await build(name, folder))
  } finally {
    await release()
  }
}

/** The path of a program that is built already. */
export async function findTool(name: ToolName): Promise<string | undefined> {
  const given = process.env['STOWAGE_TOOLS_DIR']
  const candidates = [...(given ? [join(given, name)] : []), join(await cacheFolder(name), name)]
  for (const path of candidates) if (await exists(path)) return path
  return undefined
}

function moduleFolder(name: ToolName): string {
  return fileURLToPath(new URL(`../tools/${moduleOf[name]}`, import.meta.url))
}

async function cacheFolder(name: ToolName): Promise<string> {
  const hash = createHash('sha256')
  for (const file of ['go.mod', 'go.sum', ...(await ownSource(name))]) {
    hash.update(await readFile(join(moduleFolder(name), file)))
  }
  const cache = process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache')
  return join(cache, 'stowage', 'tools', `${moduleOf[name]}-${hash.digest('hex').slice(0, 16)}`)
}

/** The files of a main package of ours; none where a module only names the tools of others. */
async function ownSource(name: ToolName): Promise<readonly string[]> {
  return (await readdir(moduleFolder(name))).filter((file) => file.endsWith('.go')).sort()
}

async function build(name: ToolName, folder: string): Promise<string> {
  const started = performance.now()
  console.log(`building ${name} from test/tools/${moduleOf[name]} (once; minutes for a large one)`)
  const unfinished = `${folder}.${randomUUID()}`
  const packages = (await ownSource(name)).length > 0 ? '.' : 'tool'
  try {
    await go(moduleFolder(name), ['build', '-trimpath', '-ldflags=-s -w', '-o', `${unfinished}/`, packages])
    await rename(unfinished, folder)
  } finally {
    await rm(unfinished, { recursive: true, force: true })
  }
  console.log(`built ${name} in ${Math.round((performance.now() - started) / 1000)} s`)
  return join(folder, name)
}

async function go(folder: string, args: readonly string[]): Promise<void> {
  const child = spawn('go', args, {
    cwd: folder,
    env: { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-buildvcs=false', GOWORK: 'off' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  const keep = (chunk: Buffer) => (output += chunk.toString())
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`go ${args.join(' ')} in ${folder} ended with ${code}:\n${output}`)
}

const heartbeatMs = 2_000
const staleMs = 20_000

/**
 * A folder as a lock, touched while it is held: one whose holder crashed goes stale and is taken over. It saves double
 * work only; two builders at once would still be right, since a build shows up by one rename.
 */
async function lock(path: string, name: string): Promise<() => Promise<void>> {
  let told = false
  while (!(await take(path))) {
    if (!told) console.log(`waiting for another process that builds ${name}`)
    told = true
    await delay(500)
  }
  const heartbeat = setInterval(() => {
    utimes(path, new Date(), new Date()).catch(() => {})
  }, heartbeatMs)
  return async () => {
    clearInterval(heartbeat)
    await rm(path, { recursive: true, force: true })
  }
}

async function take(path: string): Promise<boolean> {
  try {
    await mkdir(path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  }
  const touched = await stat(path).catch(() => undefined)
  if (touched && Date.now() - touched.mtimeMs > staleMs) await rm(path, { recursive: true, force: true })
  return false
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
