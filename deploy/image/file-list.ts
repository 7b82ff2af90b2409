/** The list of every file of the image, files.yaml, read for one architecture. */
import { readFile } from 'node:fs/promises'
import { parse } from 'yaml'
import { z } from 'zod'

export const architectures = ['amd64', 'arm64'] as const
/** As OCI, Go and Debian say it. */
export type Architecture = (typeof architectures)[number]

/** As Node and npm say it. */
export const nodeArchitectureOf = { amd64: 'x64', arm64: 'arm64' } as const satisfies Record<
  Architecture,
  string
>

const globs = z.array(z.string())

const debianPackage = z.strictObject({
  name: z.string(),
  /** An SPDX expression: Debian's copyright files cannot all be read by a program. */
  licence: z.string(),
  files: globs,
  /** A file made of those that a glob matches, in the order of their names. */
  concatenated: z.record(z.string(), z.string()).default({}),
})

const fileList = z.strictObject({
  debian: z.strictObject({ release: z.string(), packages: z.array(debianPackage) }),
  written: z.record(z.string(), z.string()),
  folders: globs,
  node: z.strictObject({ package: z.string(), files: z.record(z.string(), z.string()) }),
  modules: z.strictObject({ kept: globs, dropped: globs }),
  application: globs,
})

export type DebianPackage = Readonly<z.infer<typeof debianPackage>>
export type FileList = Readonly<z.infer<typeof fileList>>

export async function readFileList(architecture: Architecture): Promise<FileList> {
  const text = await readFile(new URL('files.yaml', import.meta.url), 'utf8')
  const list: unknown = parse(
    text.replaceAll('${arch}', architecture).replaceAll('${nodeArch}', nodeArchitectureOf[architecture]),
  )
  return fileList.parse(list)
}
