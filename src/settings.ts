/**
 * How any command turns flags, environment and file into one frozen, typed object. A command declares its settings
 * beside itself, by their camelCase names: `s3Bucket` is the flag --s3-bucket, the variable STOWAGE_S3_BUCKET and the
 * key `s3Bucket` of the file. A flag goes before a variable, a variable before the file.
 *
 * Whatever is not understood is refused before anything starts, all of it at once.
 */
import { readFileSync } from 'node:fs'
import { isNativeError } from 'node:util/types'
import { Option, type Command } from 'commander'
import type { Kind } from './settings-kinds.ts'

export interface Setting<T = unknown> {
  readonly kind: Kind<T>
  readonly help: string
  /** The heading it stands below in the help. */
  readonly group: string
  /** As a user would write it. Without one the value is undefined unless it is given. */
  readonly default?: string
  /** Its value is never repeated in a message. */
  readonly isSecret?: boolean
}

export type Settings = Readonly<Record<string, Setting>>

type Value<S> = S extends { readonly kind: Kind<infer T> } ? T : never

export type ValuesOf<S extends Settings> = {
  readonly [K in keyof S]: S[K] extends { readonly default: string } ? Value<S[K]> : Value<S[K]> | undefined
}

/** What is wrong with the setting `key`, where each value is right by itself but they do not go together. */
export interface Conflict<S extends Settings> {
  readonly key: keyof S & string
  readonly problem: string
}

/** Called with the values that are well-formed, and whether a setting was given (and is not its default). */
export type CheckTogether<S extends Settings> = (
  values: Partial<ValuesOf<S>>,
  isGiven: (key: keyof S) => boolean,
) => Iterable<Conflict<S>>

/** Settings that a command does not start with: a line each, with name, value and what was expected. */
export class SettingsRefused extends Error {
  override readonly name = 'SettingsRefused'
  readonly faults: readonly string[]
  constructor(faults: readonly string[]) {
    super(faults.join('\n'))
    this.faults = faults
  }
}

export const flagOf = (key: string) => `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
export const variableOf = (key: string) =>
  `STOWAGE_${flagOf(key).slice(2).replaceAll('-', '_').toUpperCase()}`

const otherGroup = 'Other options:'

export function addSettings(command: Command, settings: Settings): void {
  for (const [key, { kind, help, group, default: value }] of Object.entries(settings)) {
    const option = new Option(`${flagOf(key)} ${kind.placeholder}`, help)
      .env(variableOf(key))
      .helpGroup(group)
    command.addOption(value === undefined ? option : option.default(value, value === '' ? 'none' : value))
  }
  command.addOption(
    new Option('--config <file>', 'YAML or JSON file with settings, in camelCase (s3Bucket: images)')
      .env('STOWAGE_CONFIG')
      .helpGroup(otherGroup),
  )
  command.addHelpOption(new Option('-h, --help', 'print this').helpGroup(otherGroup))
}

export interface Sources {
  /** The settings of every command: a file or an environment may be shared by several. */
  readonly known: ReadonlySet<string>
  readonly env: Readonly<Record<string, string | undefined>>
}

/**
 * The values of a command that commander has parsed (it knows flags and variables by then).
 * @throws SettingsRefused
 */
export async function readSettings<S extends Settings>(
  command: Command,
  settings: S,
  sources: Sources,
  checkTogether: CheckTogether<S> = () => [],
): Promise<ValuesOf<S>> {
  const faults = [...unknownVariables(sources), ...(await applyFile(command, settings, sources.known))]
  const nameOf = (key: string) => nameAsGiven(command, key)
  const values: Record<string, unknown> = {}
  for (const [key, setting] of Object.entries(settings)) {
    const given: unknown = command.getOptionValue(key)
    values[key] = undefined
    if (given === undefined) continue
    const parsed = setting.kind.schema.safeParse(String(given))
    if (parsed.success) values[key] = parsed.data
    else faults.push(`${nameOf(key)} ${shown(String(given), setting)}: expected ${setting.kind.expected}`)
  }
  const isGiven = (key: keyof S) => isFromUser(command, String(key))
  for (const { key, problem } of checkTogether(values as Partial<ValuesOf<S>>, isGiven)) {
    const value = isGiven(key) ? ` ${shown(String(command.getOptionValue(key)), settings[key])}` : ''
    faults.push(`${value ? nameOf(key) : `${flagOf(key)} (or ${variableOf(key)})`}${value}: ${problem}`)
  }
  if (faults.length > 0) throw new SettingsRefused(faults)
  return Object.freeze(values) as ValuesOf<S>
}

function isFromUser(command: Command, key: string): boolean {
  return !['default', undefined].includes(command.getOptionValueSource(key))
}

function nameAsGiven(command: Command, key: string): string {
  const source = command.getOptionValueSource(key)
  if (source === 'env') return variableOf(key)
  return source === 'config' ? `${key} in ${String(command.getOptionValue('config'))}` : flagOf(key)
}

const shownCharacters = 200

/** A value on one line, without control characters, and without what may be a password. */
function shown(value: string, setting: Setting | undefined): string {
  if (setting?.isSecret) return '(hidden)'
  return JSON.stringify(value.replace(/\/\/[^/@]*@/g, '//***@').slice(0, shownCharacters))
}

/** In a pod the variables of Services are set too: a Service named `stowage` is STOWAGE_SERVICE_HOST and so on. */
const serviceLink =
  /^STOWAGE_(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$/

/** Names alone: an unknown variable may hold a secret. */
function* unknownVariables({ known, env }: Sources): Iterable<string> {
  const variables = new Set(['STOWAGE_CONFIG', ...[...known].map(variableOf)])
  for (const name of Object.keys(env)) {
    if (!name.startsWith('STOWAGE_') || variables.has(name) || serviceLink.test(name)) continue
    yield `${name}: there is no such setting${hintFor(name)}`
  }
}

function hintFor(name: string): string {
  if (!/access_?key|secret|token|password|credential/i.test(name)) return ''
  return '; credentials come from the AWS default chain (AWS_ACCESS_KEY_ID, a profile, a web identity, ...)'
}

/** Hands what the file says to `command`, where neither flag nor variable says it; returns what is wrong with the file. */
async function applyFile(
  command: Command,
  settings: Settings,
  known: ReadonlySet<string>,
): Promise<string[]> {
  const path: unknown = command.getOptionValue('config')
  if (typeof path !== 'string') return []
  const { entries, faults } = await readFileEntries(path, nameAsGiven(command, 'config'))
  for (const [key, value] of entries) {
    const setting = Object.hasOwn(settings, key) ? settings[key] : undefined
    if (!known.has(key)) faults.push(`${key} in ${path}: ${unknownKey(key, known)}`)
    else if (typeof value !== 'string') faults.push(`${key} in ${path}: expected a single value`)
    else if (setting && !['cli', 'env'].includes(command.getOptionValueSource(key) ?? '')) {
      command.setOptionValueWithSource(key, value, 'config')
    }
  }
  return faults
}

function unknownKey(key: string, known: ReadonlySet<string>): string {
  const plain = (name: string) => name.replace(/[-_]/g, '').toLowerCase()
  const meant = [...known].find((name) => plain(name) === plain(key))
  return meant
    ? `there is no such setting; it is written ${meant}`
    : `there is no such setting${hintFor(key)}`
}

async function readFileEntries(path: string, name: string) {
  const refuse = (problem: string) => ({
    entries: new Map<string, unknown>(),
    faults: [`${name} ${JSON.stringify(path)}: ${problem}`],
  })
  let source: string
  try {
    source = readFileSync(path, 'utf8')
  } catch (error) {
    return refuse(`cannot be read: ${isNativeError(error) ? error.message : String(error)}`)
  }
  const { parseDocument } = await import('yaml')
  // The failsafe schema leaves every scalar the text that the user wrote: a bucket named 0123 is not a number.
  const document = parseDocument(source, { schema: 'failsafe', prettyErrors: false })
  const [error] = document.errors
  if (error) return refuse(`expected YAML or JSON; line ${lineOf(source, error.pos[0])}: ${error.message}`)
  const content: unknown = document.toJS({ mapAsMap: true })
  if (content === null) return { entries: new Map<string, unknown>(), faults: [] }
  if (!(content instanceof Map)) return refuse('expected a mapping from settings to values')
  return { entries: new Map([...content].map(([key, value]) => [String(key), value as unknown])), faults: [] }
}

function lineOf(source: string, position: number): number {
  return source.slice(0, position).split('\n').length
}
