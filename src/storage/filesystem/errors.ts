import { isNativeError } from 'node:util/types'
import { StorageUnavailable } from '../driver.ts'

/** The system's name of an error (`ENOENT`), or undefined where it has none. */
export function codeOf(error: unknown): string | undefined {
  return isNativeError(error) && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

const absent = new Set(['ENOENT', 'ENOTDIR', 'ENAMETOOLONG', 'ELOOP'])

/** Whether there is no such file: a key that cannot exist here is as absent as one that does not. */
export function isAbsence(error: unknown): boolean {
  const code = codeOf(error)
  return code !== undefined && absent.has(code)
}

/** Runs `look`; what is not there is undefined. */
export async function unlessAbsent<T>(look: () => Promise<T>): Promise<T | undefined> {
  try {
    return await look()
  } catch (error) {
    if (isAbsence(error)) return undefined
    throw error
  }
}

const full = new Set(['ENOSPC', 'EDQUOT'])
const exhausted = new Set(['EMFILE', 'ENFILE'])

/** What a full disk and the like mean to whoever asked; everything else keeps its code, and names the path. */
export function explained(error: unknown, path: string): unknown {
  const code = codeOf(error)
  if (code === undefined) return error
  if (full.has(code)) {
    return new StorageUnavailable(`no space is left for ${path}`, { cause: error, retryAfterSeconds: 60 })
  }
  if (exhausted.has(code)) return new StorageUnavailable('too many files are open', { cause: error })
  if (isNativeError(error) && !('path' in error)) {
    return Object.assign(new Error(`${error.message}: ${path}`, { cause: error }), { code })
  }
  return error
}

/** Wraps what is asked of the driver, so that its errors are explained. */
export function explaining(path: string) {
  return <Args extends unknown[], Result>(act: (...args: Args) => Promise<Result>) =>
    async (...args: Args): Promise<Result> => {
      try {
        return await act(...args)
      } catch (error) {
        throw explained(error, path)
      }
    }
}

export async function* explainingEach<T>(path: string, items: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* items
  } catch (error) {
    throw explained(error, path)
  }
}
