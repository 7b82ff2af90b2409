/** What package-lock.json pins, for any architecture, and the application built from its source: by npm. */
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { runCommand } from './command.ts'
import { nodeArchitectureOf, type Architecture } from './file-list.ts'

export const projectFolder = fileURLToPath(new URL('../..', import.meta.url))

/**
 * Production dependencies in `folder`/node_modules, each checked by npm against its hash in package-lock.json. The
 * Node.js of the architecture is one of them. No script of a package is run.
 */
export async function installModules(folder: string, architecture: Architecture): Promise<void> {
  for (const file of ['package.json', 'package-lock.json', '.npmrc']) {
    await copyFile(join(projectFolder, file), join(folder, file))
  }
  const platform = ['--os=linux', `--cpu=${nodeArchitectureOf[architecture]}`, '--libc=glibc']
  await npm(folder, 'ci', '--omit=dev', '--include=optional', '--ignore-scripts', ...platform)
}

const bill = z.looseObject({
  metadata: z.looseObject({ component: z.looseObject({}) }),
  components: z.array(z.looseObject({ name: z.string() })),
  dependencies: z.array(z.looseObject({})).default([]),
})

/** A bill of materials in CycloneDX's JSON. */
export type Bill = z.infer<typeof bill>

/** What npm says about the modules that installModules installed in `folder`. */
export async function describeModules(folder: string): Promise<Bill> {
  const manifest = z
    .looseObject({ devDependencies: z.unknown() })
    .parse(JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')))
  // Or npm misses them, whatever it was told to omit.
  delete manifest.devDependencies
  await writeFile(join(folder, 'package.json'), JSON.stringify(manifest))
  return bill.parse(JSON.parse(await npm(folder, 'sbom', '--sbom-format=cyclonedx')))
}

/** Compiles src/ into `folder`/dist. */
export async function buildApplication(folder: string): Promise<void> {
  const out = join(folder, 'dist')
  await npm(projectFolder, 'run', '--silent', 'build', '--', '--outDir', out, '--sourceMap', 'false')
}

async function npm(folder: string, ...args: string[]): Promise<string> {
  // --prefix, since an npm that runs this script says by a variable where it thinks the project is.
  return runCommand('npm', [`--prefix=${folder}`, ...args], { cwd: folder })
}
