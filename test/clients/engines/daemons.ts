/** Container engines' daemons, each with all it keeps in the folder of its test: its own root, state and socket. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { start, type Running } from '../../support/processes.ts'
import type { ClientFolder } from '../client-folder.ts'
import { ownMounts, unshare } from './own-mounts.ts'

export interface Daemon extends Running {
  /** The path of the socket that its clients connect to. */
  readonly socket: string
}

/** Debian's dockerd, without networks for containers: what it does here is build, pull and push. */
export async function startDockerd(folder: ClientFolder): Promise<Daemon> {
  const socket = join(folder.path, 'docker.sock')
  // Its default is in /etc, which is not the folder's.
  const settings = { 'deprecated-key-path': join(folder.path, 'docker-key.json') }
  const places = {
    '--data-root': join(folder.path, 'docker-root'),
    '--exec-root': join(folder.path, 'docker-exec'),
    '--pidfile': join(folder.path, 'docker.pid'),
    '--config-file': await folder.file('daemon.json', JSON.stringify(settings)),
    '--host': `unix://${socket}`,
  }
  const args = [
    ...(await ownMounts(folder, '/usr/sbin/dockerd')),
    '--bridge=none',
    '--iptables=false',
    '--ip6tables=false',
    '--storage-driver=vfs',
    ...Object.entries(places).flat(),
  ]
  const { path: cwd, env } = folder
  const running = await start(unshare, args, { ready: /API listen on /, cwd, env })
  return { ...running, socket }
}

export interface ContainerdOptions {
  /** The path of containerd, 1 or 2. */
  readonly binary: string
  /** Of the configuration's format. */
  readonly configVersion: 2 | 3
  /** Settings of its plugins, as TOML. */
  readonly plugins?: string
}

/**
 * containerd without its half for Kubernetes, which would look for networks; and its garbage collection after so many
 * changes only that no test makes them: it would take away what a pull that failed left behind.
 */
export async function startContainerd(
  folder: ClientFolder,
  { binary, configVersion, plugins = '' }: ContainerdOptions,
): Promise<Daemon> {
  const at = (name: string) => join(folder.path, `containerd${configVersion}-${name}`)
  const socket = at('sock')
  const ofKubernetes = ['grpc.v1.cri', 'cri.v1.images', 'cri.v1.runtime'].map((id) => `"io.containerd.${id}"`)
  const config = `
    version = ${configVersion}
    root = "${at('root')}"
    state = "${at('state')}"
    disabled_plugins = [${ofKubernetes.join(', ')}]
    [grpc]
    address = "${socket}"
    [ttrpc]
    address = "${socket}.ttrpc"
    [plugins."io.containerd.gc.v1.scheduler"]
    mutation_threshold = 1000000
    ${plugins}`
  const configFile = at('config.toml')
  await writeFile(configFile, config)
  const args = [...(await ownMounts(folder, binary)), '--config', configFile]
  const { path: cwd, env } = folder
  const running = await start(unshare, args, { ready: /containerd successfully booted/, cwd, env })
  return { ...running, socket }
}
