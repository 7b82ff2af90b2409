/** A temporary folder in which client programs run, with a home of its own; and how they are called in it. */
import { expect } from '@jest/globals'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run, runOk, type RunOptions, type RunResult } from '../support/processes.ts'

export interface ClientFolder {
  readonly path: string
  /** No credentials, settings or proxies of whoever runs the tests. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** Writes a file below it; gives its path. */
  file(name: string, content: string | Uint8Array): Promise<string>
  remove(): Promise<void>
}

const proxyVariables = ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'NO_PROXY'].flatMap((name) => [
  name,
  name.toLowerCase(),
])

export async function clientFolder(name: string): Promise<ClientFolder> {
  const path = await mkdtemp(join(tmpdir(), `stowage-${name}-`))
  const home = join(path, 'home')
  const runtime = join(path, 'runtime')
  await mkdir(home)
  await mkdir(runtime, { mode: 0o700 })
  return {
    path,
    env: {
      ...Object.fromEntries(proxyVariables.map((variable) => [variable, undefined])),
      HOME: home,
      DOCKER_CONFIG: undefined,
      DOCKER_HOST: undefined,
      REGISTRY_AUTH_FILE: undefined,
      XDG_CACHE_HOME: join(home, '.cache'),
      XDG_CONFIG_HOME: join(home, '.config'),
      XDG_DATA_HOME: join(home, '.local/share'),
      XDG_RUNTIME_DIR: runtime,
      TMPDIR: path,
    },
    async file(file, content) {
      const to = join(path, file)
      await writeFile(to, content)
      return to
    },
    remove: () => rm(path, { recursive: true, force: true }),
  }
}

/** `command` is words that hold no spaces themselves; the other arguments are taken as they are. */
export interface ClientProgram {
  /** What it prints, without the last line's end; it must succeed. */
  run(command: string, ...args: string[]): Promise<string>
  /** What it says as it fails; it must fail. */
  fails(command: string, ...args: string[]): Promise<string>
  result(command: string, ...args: string[]): Promise<RunResult>
}

/** @param first what its command line always begins with */
export function clientProgram(
  { path: cwd, env }: ClientFolder,
  path: string,
  { first = [], ...more }: RunOptions & { readonly first?: readonly string[] } = {},
): ClientProgram {
  const options = { cwd, ...more, env: { ...env, ...more.env } }
  const argumentsOf = (command: string, args: readonly string[]) => [...first, ...command.split(' '), ...args]
  return {
    run: async (command, ...args) => (await runOk(path, argumentsOf(command, args), options)).trimEnd(),
    async fails(command, ...args) {
      const { code, stderr, stdout } = await run(path, argumentsOf(command, args), options)
      expect({ code, stdout: stdout.toString() }).not.toMatchObject({ code: 0 })
      return stderr
    },
    result: (command, ...args) => run(path, argumentsOf(command, args), options),
  }
}
