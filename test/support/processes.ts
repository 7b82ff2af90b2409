/**
 * Real processes for tests: started, waited for until they are ready, and gone when the test run is, however it ends.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

export interface StartOptions {
  /** Ready when its output matches the expression, or when a GET of the URL is answered by less than a 500. */
  readonly ready: RegExp | string
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly cwd?: string
  /** How long it may take to become ready; default 30,000. */
  readonly timeoutMs?: number
}

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Running {
  readonly pid: number
  readonly exited: Promise<Exit>
  /** What it wrote to stdout and stderr, the last 256 KiB of it. */
  output(): string
  /** Sends a signal and returns at once; one that has ended already is no error. */
  kill(signal: NodeJS.Signals): void
  /** SIGTERM, then SIGKILL after `graceMs` (default 10,000); returns when the process is gone. */
  stop(graceMs?: number): Promise<Exit>
}

/** @throws where it ends, or is not ready, in time; the message holds its output, and it is gone by then */
export async function start(
  command: string,
  args: readonly string[],
  options: StartOptions,
): Promise<Running> {
  const running = await launch(command, args, options)
  const deadline = Date.now() + (options.timeoutMs ?? 30_000)
  let exit: Exit | undefined
  void running.exited.then((value) => (exit = value))
  while (!(await isReady(running, options.ready))) {
    if (exit !== undefined || Date.now() > deadline) {
      const what = exit ? `ended (${exit.signal ?? exit.code})` : 'was not ready in time'
      await running.stop(0)
      throw new Error(`${[command, ...args].join(' ')} ${what}; it wrote:\n${running.output()}`)
    }
    await delay(20)
  }
  return running
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly cwd?: string
  readonly input?: string | Uint8Array
  /** After this many ms it is killed; default 60,000. */
  readonly timeoutMs?: number
}

export interface RunResult extends Exit {
  readonly stdout: Buffer
  readonly stderr: string
}

/** Runs a command to its end. A code other than 0 is a result, not an error: see runOk. */
export async function run(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    timeout: options.timeoutMs ?? 60_000,
    killSignal: 'SIGKILL',
  })
  const stdout: Buffer[] = []
  const stderr: Buffer[] = []
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk))
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk))
  // A command that does not read its input to the end is judged by its exit code, not by the broken pipe.
  child.stdin.on('error', () => {})
  child.stdin.end(options.input)
  leash.hold(child)
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]
  return { code, signal, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() }
}

/** The stdout of a command that must succeed. */
export async function runOk(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const result = await run(command, args, options)
  if (result.code !== 0) {
    throw new Error(
      `${[command, ...args].join(' ')} ended (${result.signal ?? result.code}):\n${result.stderr}${result.stdout.toString()}`,
    )
  }
  return result.stdout.toString()
}

/** A port of 127.0.0.1 that nobody listened on a moment ago: for programs that cannot say which port 0 became. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port was given')
  return address.port
}

const keptOutputBytes = 256 * 1024

async function launch(command: string, args: readonly string[], options: StartOptions): Promise<Running> {
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  })
  let output = ''
  const keep = (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-keptOutputBytes)
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  const exited = new Promise<Exit>((resolve) => {
    child.once('close', (code, signal) => {
      resolve({ code, signal })
    })
  })
  await once(child, 'spawn')
  leash.hold(child)
  unref(child)
  return {
    pid: child.pid ?? 0,
    exited,
    output: () => output,
    kill: (signal) => {
      child.kill(signal)
    },
    stop: async (graceMs = 10_000) => {
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), graceMs)
      const exit = await exited
      clearTimeout(timer)
      return exit
    },
  }
}

async function isReady(running: Running, ready: RegExp | string): Promise<boolean> {
  if (ready instanceof RegExp) return ready.test(running.output())
  try {
    const response = await fetch(ready, { signal: AbortSignal.timeout(2_000) })
    await response.body?.cancel()
    return response.status < 500
  } catch {
    return false
  }
}

/**
 * A shell that is told of every child, and kills what is left of them once the pipe from this process closes: so they
 * go also where this process is killed. It lives only as long as there are children.
 */
const leash = {
  children: new Set<ChildProcess>(),
  shell: undefined as ChildProcess | undefined,

  hold(child: ChildProcess): void {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    this.shell ??= startLeash()
    this.children.add(child)
    this.shell.stdin?.write(`+ ${child.pid}\n`)
    child.once('exit', () => {
      this.children.delete(child)
      this.shell?.stdin?.write(`- ${child.pid}\n`)
      if (this.children.size > 0) return
      this.shell?.stdin?.end()
      this.shell = undefined
    })
  },
}

function startLeash(): ChildProcess {
  const script = `trap '' INT TERM HUP
    pids=' '
    while read -r what pid; do
      case $what in
        +) pids="$pids$pid " ;;
        -) pids="\${pids%% $pid *} \${pids#* $pid }" ;;
      esac
    done
    for pid in $pids; do kill -9 "$pid" 2>/dev/null; done`
  // A session of its own: a Ctrl-C at the terminal is for the tests, not for what cleans up behind them.
  const shell = spawn('/bin/sh', ['-c', script], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
  shell.stdin.on('error', () => {})
  unref(shell)
  return shell
}

/** A child that a failed test left behind must not keep the test run from ending (the leash ends the child). */
function unref(child: ChildProcess): void {
  child.unref()
  for (const stream of child.stdio) (stream as Socket | null | undefined)?.unref()
}
