import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const execute = promisify(execFile)

/**
 * What a program prints to stdout.
 * @throws where it fails, with what it printed to stderr, or where there is no such program
 */
export async function runCommand(
  command: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<string> {
  const { stdout } = await execute(command, args, {
    maxBuffer: 64 * 2 ** 20,
    ...(options.cwd !== undefined && { cwd: options.cwd }),
    env: { ...process.env, LC_ALL: 'C', ...options.env },
  })
  return stdout
}
