import { stripVTControlCharacters } from 'node:util'
import { isNativeError } from 'node:util/types'
import { pino } from 'pino'
import type { LogLevel } from './log-levels.ts'

type Write = (fields: object, message: string) => void

/** Structured lines: particulars as fields (an error as `err`), and a message that is the same each time. */
export interface Log {
  readonly debug: Write
  readonly info: Write
  readonly warn: Write
  readonly error: Write
  /** A log whose lines all have these fields. */
  child(fields: object): Log
}

export interface LogOptions {
  readonly level: LogLevel
  /** JSON lines for machines, or plain lines for a person at a terminal. Default: by whether stderr is a terminal. */
  readonly format?: 'json' | 'text'
  /** Where the lines go; default stderr, written before the call returns, so that a crash loses none. */
  readonly destination?: { write(line: string): unknown }
}

export function createLog(options: LogOptions): Log {
  const destination = options.destination ?? pino.destination({ fd: 2, sync: true })
  const format = options.format ?? (process.stderr.isTTY ? 'text' : 'json')
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: describeError },
      // A second net: what holds credentials is not handed to a log in the first place.
      redact: ['authorization', 'headers.authorization', 'headers.cookie', 'password', 'token'],
    },
    format === 'json' ? destination : { write: (line: string) => destination.write(textLine(line)) },
  )
}

const causesShown = 5
/** Of many that an AggregateError stands for. */
const errorsShown = 5

interface ErrorFields {
  readonly type: string
  readonly message: string
  readonly code?: unknown
  readonly status?: number
  readonly stack?: string
  readonly cause?: unknown
  readonly errors?: readonly unknown[]
}

/** Named fields alone: errors of SDKs carry whole requests, with their signatures. */
function describeError(error: unknown, depth = 0): unknown {
  if (!isNativeError(error)) return typeof error === 'object' ? 'not an Error' : String(error)
  const { code, $metadata } = error as { code?: unknown; $metadata?: { httpStatusCode?: number } }
  const fields: ErrorFields = {
    type: error.name,
    message: error.message,
    ...(code !== undefined && { code }),
    ...($metadata?.httpStatusCode !== undefined && { status: $metadata.httpStatusCode }),
    ...(error.stack !== undefined && { stack: error.stack }),
    ...(depth < causesShown && describeCauses(error, depth + 1)),
  }
  return fields
}

function describeCauses(error: Error, depth: number): Pick<ErrorFields, 'cause' | 'errors'> {
  const { errors } = error as { errors?: unknown }
  return {
    ...(error.cause !== undefined && { cause: describeError(error.cause, depth) }),
    ...(Array.isArray(errors) && {
      errors: errors.slice(0, errorsShown).map((each: unknown) => describeError(each, depth)),
    }),
  }
}

/** `12:30:00.000 WARN the message key=value`, made from pino's JSON line. */
function textLine(line: string): string {
  const { time, level, msg, err, ...fields } = JSON.parse(line) as Record<string, unknown>
  const pairs = Object.entries(fields).map(([key, value]) => ` ${key}=${oneLine(value)}`)
  const head = `${String(time).slice(11, -1)} ${String(level).toUpperCase().padEnd(5)} ${oneLine(msg)}`
  return `${head}${pairs.join('')}${isErrorFields(err) ? `\n${stackText(err)}` : ''}\n`
}

function stackText({ stack, message, cause, errors = [] }: ErrorFields): string {
  const causes = [cause, ...errors].filter(isErrorFields)
  const text = stripVTControlCharacters(stack ?? message)
  return [text, ...causes.map((each) => `Caused by ${stackText(each)}`)].join('\n')
}

/** Control characters stay escaped: what a client sends must not move the cursor of whoever reads the log. */
function oneLine(value: unknown): string {
  if (typeof value === 'string' && /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(value)) return value
  return JSON.stringify(value) ?? ''
}

function isErrorFields(value: unknown): value is ErrorFields {
  return typeof value === 'object' && value !== null && 'message' in value
}
