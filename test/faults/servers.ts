import { fileURLToPath } from 'node:url'
import { start, type Running } from '../support/processes.ts'
import type { ServerOptions, Watched } from './server.ts'

const program = fileURLToPath(new URL('server.ts', import.meta.url))

export interface FaultServer extends Running {
  /** host:port */
  readonly registry: string
  watched(): Promise<Watched>
}

/** @throws where it ends before it listens */
export async function startServer(
  options: ServerOptions,
  env: Readonly<Record<string, string>> = {},
): Promise<FaultServer> {
  const running = await start(process.execPath, [program, JSON.stringify(options)], { ready: listening, env })
  const registry = listening.exec(running.output())?.[1] ?? ''
  return {
    ...running,
    registry,
    async watched() {
      const response = await fetch(`http://${registry}/watched`)
      return (await response.json()) as Watched
    },
  }
}

const listening = /listening on http:\/\/(127\.0\.0\.1:\d+)/
