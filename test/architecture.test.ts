/**
 * Who may import whom (docs/ARCHITECTURE.md), read from the import statements themselves. A file that matches no row
 * of `mayImport` fails: a new folder needs its rule first.
 */
import { describe, expect, test } from '@jest/globals'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))

const leaves = ['src/oci/', 'src/clock.ts', 'src/settings', 'src/telemetry/']

/** By the beginning of its path: a file may import what begins like it, and what its row names. */
const mayImport: readonly (readonly [path: string, allowed: readonly string[]])[] = [
  ['src/oci/', []],
  ['src/clock.ts', []],
  ['src/settings', []],
  ['src/telemetry/', ['src/clock.ts']],
  ['src/storage/', leaves],
  ['src/registry/', ['src/storage/', ...leaves]],
  ['src/gc/', ['src/storage/', 'src/registry/', ...leaves]],
  ['src/auth/', leaves],
  ['src/http/', ['src/registry/', 'src/auth/', ...leaves]],
  ['src/kube/', leaves],
  ['src/operator/', ['src/kube/', ...leaves]],
  ['src/commands/', ['src/']],
  ['src/main.ts', ['src/commands/', ...leaves]],
]

/** Each third party has one place; whatever is not named here may not be imported in src at all. */
const placeOf: readonly (readonly [packages: RegExp, place: RegExp])[] = [
  [/^@(aws-sdk|smithy)\//, /^src\/storage\/s3[./]/],
  [/^(koa|@koa\/router)$/, /^src\/http\//],
  [/^@kubernetes\/client-node$/, /^src\/kube\/client\.ts$/],
  [/^(pino|prom-client)$/, /^src\/telemetry\//],
  [/^lru-cache$/, /^src\/(registry|storage|http|auth)\//],
  [/^(bcrypt|p-limit)$/, /^src\/auth\//],
  [/^p-map$/, /^src\/(registry|storage|gc)\//],
  [/^commander$/, /^src\/(main|settings.*|commands\/.*)\.ts$/],
  [/^yaml$/, /^src\/settings.*\.ts$/],
  [/^zod$/, /^src\/(settings.*|commands\/.*|oci\/manifest|registry\/.*)\.ts$/],
]

interface Import {
  readonly from: string
  readonly specifier: string
  /** Of an import within the project: the file, from the project's root. */
  readonly file?: string
  /** Happens when the importing file is loaded: no type, which is gone by then, and no import(). */
  readonly isEager: boolean
}

const sources = globSync('src/**/*.ts', { cwd: root }).map((path) => path.replaceAll('\\', '/'))
const imports = sources.flatMap((from) => importsOf(from, readFileSync(join(root, from), 'utf8')))

function importsOf(from: string, text: string): Import[] {
  const code = text.replaceAll(/^\s*(\/?\*|\/\/).*$/gm, '')
  const statement =
    /^\s*(?:import|export)\s+(type\s)?(?:[\w*{}\s,$]+?\sfrom\s+)?'([^']+)'|\bimport\('([^']+)'\)/gm
  return [...code.matchAll(statement)].map(([, type, named, dynamic]) => {
    const specifier = named ?? dynamic ?? ''
    const isEager = type === undefined && dynamic === undefined
    if (!specifier.startsWith('.')) return { from, specifier, isEager }
    return { from, specifier, isEager, file: normalize(join(dirname(from), specifier)) }
  })
}

function ruleOf(path: string): readonly [string, readonly string[]] | undefined {
  return mayImport.find(([prefix]) => path.startsWith(prefix))
}

describe('within the project', () => {
  test('every source file has a rule', () => {
    expect(sources.length).toBeGreaterThan(0)
    expect(sources.filter((path) => ruleOf(path) === undefined)).toEqual([])
  })

  test('a folder imports only what its rule names', () => {
    const broken = imports.flatMap(({ from, file }) => {
      const [own, allowed] = ruleOf(from) ?? ['', []]
      if (file === undefined || [own, ...allowed].some((prefix) => file.startsWith(prefix))) return []
      return [`${from} imports ${file}; ${own} may import ${allowed.join(', ') || 'nothing of the project'}`]
    })
    expect(broken).toEqual([])
  })

  test('nothing imports main.ts, and nothing in src imports from outside of it', () => {
    const broken = imports.filter(({ file }) => file === 'src/main.ts' || file?.startsWith('src/') === false)
    expect(broken.map(({ from, file }) => `${from} imports ${file}`)).toEqual([])
  })

  test('files do not import each other in a circle', () => {
    expect(findCircle()).toEqual([])
  })
})

describe('third parties', () => {
  const external = imports.filter(
    ({ file, specifier }) => file === undefined && !specifier.startsWith('node:'),
  )

  test('each is imported in its one place', () => {
    const broken = external.flatMap(({ from, specifier }) => {
      const place = placeOf.find(([packages]) => packages.test(specifier))?.[1]
      if (place?.test(from)) return []
      return [
        `${from} imports ${specifier}, which ${place ? `belongs in ${place.source}` : 'has no place in src'}`,
      ]
    })
    expect(broken).toEqual([])
  })

  test('what a command needs is loaded by that command alone: main.ts imports commands when they are called', () => {
    const early = imports.filter(({ from, file = '', isEager }) => {
      return from === 'src/main.ts' && file.startsWith('src/commands/') && isEager
    })
    expect(early.map(({ file }) => file)).toEqual([])
  })
})

/** The files of the first circle of imports found. */
function findCircle(): string[] {
  const next = Map.groupBy(
    imports.filter(({ file, isEager }) => file !== undefined && isEager),
    ({ from }) => from,
  )
  const done = new Set<string>()
  const visit = (file: string, path: readonly string[]): string[] => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file]
    if (done.has(file)) return []
    for (const { file: target = '' } of next.get(file) ?? []) {
      const circle = visit(target, [...path, file])
      if (circle.length > 0) return circle
    }
    done.add(file)
    return []
  }
  for (const file of sources) {
    const circle = visit(file, [])
    if (circle.length > 0) return circle
  }
  return []
}
