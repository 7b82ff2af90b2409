import { isNativeError } from 'node:util/types'
import { listen, type Handle, type HttpServer, type ListenOptions } from '../http/server.ts'
import { flagOf } from '../settings.ts'
import { CommandFailed } from './command.ts'

const listenProblems: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process listens there; end it, or choose another port by <flag>',
  EACCES: 'this user may not; choose a port above 1023 by <flag>',
  EADDRNOTAVAIL: 'this machine has no such address',
  ENOTFOUND: 'the host name is unknown',
}

/**
 * @param setting the one that says where
 * @throws CommandFailed
 */
export async function listenAsSet(
  setting: 'listen' | 'adminListen',
  handle: Handle,
  options: ListenOptions,
): Promise<HttpServer> {
  try {
    return await listen(handle, options)
  } catch (error) {
    const problem = listenProblem(error).replace('<flag>', flagOf(setting))
    throw new CommandFailed(`cannot listen on ${options.host}:${options.port}: ${problem}`, { cause: error })
  }
}

function listenProblem(error: unknown): string {
  if (!isNativeError(error)) return String(error)
  return ('code' in error && listenProblems[String(error.code)]) || error.message
}
