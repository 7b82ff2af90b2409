/** Programs and libraries, as readelf describes them. */
import { open } from 'node:fs/promises'
import { runOk } from '../support/processes.ts'

export interface ElfFile {
  /** Such as AArch64. */
  readonly machine: string
  /** The libraries that it asks the loader for, by name. */
  readonly needed: readonly string[]
  readonly interpreter: string | undefined
}

/** Nothing for a file of another kind. */
export async function readElf(path: string): Promise<ElfFile | undefined> {
  if (!(await isElf(path))) return undefined
  const text = await runOk('readelf', ['--wide', '--file-header', '--program-headers', '--dynamic', path], {
    env: { LC_ALL: 'C' },
  })
  return {
    machine: /^ *Machine: +(.+)$/m.exec(text)?.[1] ?? '',
    needed: [...text.matchAll(/\(NEEDED\) +Shared library: \[(.+)\]/g)].map(([, name = '']) => name),
    interpreter: /Requesting program interpreter: (.+)\]/.exec(text)?.[1],
  }
}

async function isElf(path: string): Promise<boolean> {
  const file = await open(path)
  try {
    const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 0)
    return buffer.equals(Buffer.from('\x7fELF'))
  } finally {
    await file.close()
  }
}
