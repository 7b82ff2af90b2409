/** `stowage serve` as its users run it: a process of its own, on a port that was free. */
import { fileURLToPath } from 'node:url'
import { start, type Running } from './processes.ts'

export interface Stowage extends Running {
  /** host:port */
  readonly registry: string
}

/** The source and not dist/, which may be older. */
const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

/** An environment beside this process's own: the settings of whoever runs the tests are none of the command's. */
export const withoutSettings: Readonly<Record<string, undefined>> = Object.fromEntries(
  Object.keys(process.env).flatMap((name) => (name.startsWith('STOWAGE_') ? [[name, undefined]] : [])),
)

/**
 * @param args of `serve`, beside --listen
 * @param env beside this process's own; a setting of the caller's (STOWAGE_...) is not passed on
 */
export async function startStowage(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Stowage> {
  const running = await start(process.execPath, [main, 'serve', '--listen', '127.0.0.1:0', ...args], {
    ready: listening,
    env: { ...withoutSettings, ...env },
  })
  return { ...running, registry: listening.exec(running.output())?.[1] ?? '' }
}

const listening = /listening on https?:\/\/(127\.0\.0\.1:\d+)/
