/**
 * Programs that as root keep state in /var/lib and mount layers, in mounts of their own: they see a folder of the test
 * there, and what they mount is gone with them.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { clientProgram, type ClientFolder, type ClientProgram } from '../client-folder.ts'

/** Of util-linux. The machine's mounts are not touched, since nothing propagates back. */
export const unshare = '/usr/bin/unshare'
const enter = ['--mount', '--propagation', 'private', 'sh', '-c']

/** Arguments of unshare: `program` follows, and then its own. */
export async function ownMounts(folder: ClientFolder, program: string): Promise<string[]> {
  const varLib = join(folder.path, 'var-lib')
  await mkdir(varLib, { recursive: true })
  return [...enter, 'mount --bind "$0" /var/lib && exec "$@"', varLib, program]
}

/** @param options that every call of the program begins with */
export async function engineProgram(
  folder: ClientFolder,
  program: string,
  options: readonly string[] = [],
): Promise<ClientProgram> {
  return clientProgram(folder, unshare, { first: [...(await ownMounts(folder, program)), ...options] })
}
