/**
 * A container without an engine: runc, the runtime below most of them, on an unpacked root file system. Read-only, with
 * the user that the image says, without capabilities, in namespaces of its own but for the network.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run, runOk, start, type RunResult, type Running } from '../support/processes.ts'
import type { ImageConfig } from './built-image.ts'

export interface ContainerOptions {
  /** In place of the image's own Cmd, or Entrypoint. */
  readonly command?: readonly string[]
  readonly entrypoint?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Paths in the container, and what is to be there. */
  readonly mounts?: Readonly<Record<string, string>>
}

export interface ContainerRuntime {
  /** Runs a container to its end. */
  run(options: ContainerOptions): Promise<RunResult>
  /** Starts one, whose output says when it is ready; a signal sent to it arrives in the container. */
  start(options: ContainerOptions, ready: RegExp): Promise<Running>
  /** Ends whatever is left. */
  close(): Promise<void>
}

/** @param folder of this runtime alone, for what it keeps about containers */
export function containerRuntime(folder: string, rootfs: string, image: ImageConfig): ContainerRuntime {
  const state = ['--root', join(folder, 'state')]
  const prepare = async (options: ContainerOptions) => {
    const id = `stowage-test-${randomUUID()}`
    const bundle = join(folder, id)
    await mkdir(bundle, { recursive: true })
    await writeFile(join(bundle, 'config.json'), JSON.stringify(bundleOf(rootfs, image, options)))
    return [...state, 'run', '--bundle', bundle, id]
  }
  return {
    run: async (options) => run('runc', await prepare(options)),
    start: async (options, ready) => start('runc', await prepare(options), { ready }),
    async close() {
      const ids = (await runOk('runc', [...state, 'list', '--quiet'])).split('\n').filter(Boolean)
      for (const id of ids) await runOk('runc', [...state, 'delete', '--force', id])
    },
  }
}

/** The runtime specification's config.json. */
function bundleOf(rootfs: string, { config }: ImageConfig, options: ContainerOptions): object {
  const [uid, gid] = config.User.split(':').map(Number)
  const mounts = Object.entries(options.mounts ?? {}).map(([destination, source]) => ({
    destination,
    source,
    type: 'bind',
    options: ['rbind', 'rw', 'nosuid', 'nodev'],
  }))
  return {
    ociVersion: '1.0.2',
    process: {
      user: { uid, gid },
      args: [...(options.entrypoint ?? config.Entrypoint), ...(options.command ?? config.Cmd)],
      env: [...config.Env, ...Object.entries(options.env ?? {}).map((pair) => pair.join('='))],
      cwd: config.WorkingDir,
      capabilities: {},
      noNewPrivileges: true,
    },
    root: { path: rootfs, readonly: true },
    hostname: 'stowage',
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755'] },
      ...mounts,
    ],
    linux: { namespaces: ['pid', 'mount', 'ipc', 'uts'].map((type) => ({ type })) },
  }
}
