/** What a setting's value may look like: each kind turns the text that a user wrote into a typed value. */
import { z } from 'zod'

export interface Kind<T> {
  /** As the help shows it behind the flag. In square brackets: the flag alone means `true`. */
  readonly placeholder: string
  /** What a value has to be, to follow "expected". */
  readonly expected: string
  readonly schema: z.ZodType<T, string>
}

/** Where a server listens. An empty host means every address of the machine; port 0 any free port. */
export interface HostAndPort {
  readonly host: string
  readonly port: number
}

const units = { '': 1, B: 1, KiB: 2 ** 10, Ki: 2 ** 10, MiB: 2 ** 20, Mi: 2 ** 20, GiB: 2 ** 30, Gi: 2 ** 30 }
const unitOf: ReadonlyMap<string, number> = new Map(Object.entries(units))
const msOf: ReadonlyMap<string, number> = new Map(
  Object.entries({ ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }),
)

export function text(placeholder: string, pattern: RegExp, expected: string): Kind<string> {
  return { placeholder, expected, schema: z.string().regex(pattern) }
}

export function choice<const T extends readonly [string, ...string[]]>(
  placeholder: string,
  values: T,
): Kind<T[number]> {
  return { placeholder, expected: `one of ${values.join(', ')}`, schema: z.enum(values) }
}

export const yesOrNo: Kind<boolean> = {
  placeholder: '[true|false]',
  expected: 'true or false',
  schema: z.enum(['true', 'false']).transform((value) => value === 'true'),
}

export function bytes(limits: { readonly min: number; readonly max: number }): Kind<number> {
  const parse = (value: string) => {
    const [, digits, unit = ''] = /^(\d{1,15})([A-Za-z]*)$/.exec(value) ?? []
    return Number(digits) * (unitOf.get(unit) ?? Number.NaN)
  }
  return {
    placeholder: '<bytes>',
    expected: `a number of bytes from ${sizeText(limits.min)} to ${sizeText(limits.max)}, such as 8388608 or 8MiB`,
    schema: numberWithin(parse, limits),
  }
}

/** A time in milliseconds, written with its units. */
export function duration(limits: { readonly minMs: number; readonly maxMs: number }): Kind<number> {
  const parse = (value: string) => {
    if (!/^(\d{1,10}(ms|s|m|h|d))+$/.test(value)) return Number.NaN
    const parts = [...value.matchAll(/(\d+)([a-z]+)/g)]
    return parts.reduce(
      (sum, [, count, unit = '']) => sum + Number(count) * (msOf.get(unit) ?? Number.NaN),
      0,
    )
  }
  return {
    placeholder: '<duration>',
    expected: `a duration from ${durationText(limits.minMs)} to ${durationText(limits.maxMs)}, such as 90s, 24h or 1h30m`,
    schema: numberWithin(parse, { min: limits.minMs, max: limits.maxMs }),
  }
}

const hostPort = /^(?:\[(?<six>[0-9A-Fa-f:.]+)\]|(?<name>[A-Za-z0-9._-]*)):(?<port>\d{1,5})$/

export const hostAndPort: Kind<HostAndPort> = {
  placeholder: '<host:port>',
  expected:
    'HOST:PORT, such as 127.0.0.1:5000, [::1]:5000 or :5000 for every address; port 0 is any free one',
  schema: z.string().transform((value, context): HostAndPort => {
    const { six, name, port } = hostPort.exec(value)?.groups ?? {}
    if (port !== undefined && Number(port) < 65_536) return { host: six ?? name ?? '', port: Number(port) }
    context.addIssue({ code: 'custom' })
    return z.NEVER
  }),
}

/** An http or https URL without credentials, query or fragment. */
export const httpUrl: Kind<string> = {
  placeholder: '<url>',
  expected: 'an http:// or https:// URL without credentials, such as https://s3.example.org',
  schema: z.string().refine((value) => {
    const url = URL.parse(value)
    if (!url || !/^https?:$/.test(url.protocol)) return false
    return !(url.username || url.password || url.search || url.hash)
  }),
}

export function sizeText(size: number): string {
  for (const unit of ['GiB', 'MiB', 'KiB'] as const) {
    if (size >= units[unit] && size % units[unit] === 0) return `${size / units[unit]}${unit}`
  }
  return String(size)
}

function durationText(ms: number): string {
  if (ms === 0) return '0s'
  for (const [unit, unitMs] of [...msOf].toReversed()) if (ms % unitMs === 0) return `${ms / unitMs}${unit}`
  return `${ms}ms`
}

function numberWithin(
  parse: (value: string) => number,
  limits: { readonly min: number; readonly max: number },
) {
  return z.string().transform((value, context) => {
    const number = parse(value)
    if (number >= limits.min && number <= limits.max) return number
    context.addIssue({ code: 'custom' })
    return z.NEVER
  })
}
