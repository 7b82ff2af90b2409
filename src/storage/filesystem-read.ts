import { openFile } from './filesystem-info.ts'

/** Reads whole small files. @throws Error where one is larger than `maxBytes` */
export type ReadWhole = (path: string, maxBytes: number) => Promise<Buffer | undefined>

export function wholeReader(): ReadWhole {
  return async (path, maxBytes) => {
    const file = await openFile(path)
    if (!file) return undefined
    await using handle = file.handle
    if (file.object.size > maxBytes) throw new Error(`${path} is larger than ${maxBytes} bytes`)
    return await handle.readFile()
  }
}
