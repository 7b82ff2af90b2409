/**
 * Programs that as root keep state in folders of the system and mount layers, in mounts of their own: they see folders
 * of the test there, and what they mount is gone with them.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { clientProgram, type ClientFolder, type ClientProgram } from '../client-folder.ts'

/** Of util-linux. The machine's mounts are not touched, since nothing propagates back. */
export const unshare = '/usr/bin/unshare'

const systemFolders = ['/var/lib', '/run', '/opt']

/** Arguments of unshare: `program` follows, and then its own. */
export async function ownMounts(folder: ClientFolder, program: string): Promise<string[]> {
  const system = join(folder.path, 'system')
  for (const each of systemFolders) await mkdir(join(system, each), { recursive: true })
  const binds = systemFolders.map((each) => `mount --bind "$0${each}" ${each} && `).join('')
  return ['--mount', '--propagation', 'private', 'sh', '-c', `${binds}exec "$@"`, system, program]
}

/** @param options that every call of the program begins with */
export async function engineProgram(
  folder: ClientFolder,
  program: string,
  options: readonly string[] = [],
): Promise<ClientProgram> {
  return clientProgram(folder, unshare, { first: [...(await ownMounts(folder, program)), ...options] })
}
