import { describe, expect, test } from '@jest/globals'
import { createLog, type Log } from '../../../src/telemetry/log.ts'
import type { LogLevel } from '../../../src/telemetry/log-levels.ts'

function logTo(level: LogLevel, format: 'json' | 'text') {
  const lines: string[] = []
  const log: Log = createLog({ level, format, destination: { write: (line) => lines.push(line) } })
  const parsed = () => lines.map((line) => JSON.parse(line) as Record<string, unknown>)
  return { log, lines, parsed }
}

describe('the log', () => {
  test('a line is one JSON object with level, time, fields and message', () => {
    const { log, parsed } = logTo('info', 'json')
    log.child({ repository: 'a/b' }).warn({ bytes: 3 }, 'something is odd')
    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/)
    expect(parsed()).toEqual([{ level: 'warn', time, repository: 'a/b', bytes: 3, msg: 'something is odd' }])
  })

  test('lines below the level are not written', () => {
    const { log, parsed } = logTo('warn', 'json')
    for (const write of ['debug', 'info', 'warn', 'error'] as const) log[write]({}, write)
    expect(parsed().map(({ msg }) => msg)).toEqual(['warn', 'error'])
  })

  test('an error is told with its causes, and without what hangs on it', () => {
    const { log, parsed } = logTo('info', 'json')
    const cause = Object.assign(new TypeError('inner'), {
      code: 'EINNER',
      $metadata: { httpStatusCode: 503 },
      $response: { headers: { authorization: 'hunter2' } },
    })
    log.error({ err: new Error('outer', { cause }) }, 'it failed')
    expect(parsed()[0]?.['err']).toMatchObject({
      type: 'Error',
      message: 'outer',
      stack: expect.stringContaining('outer'),
      cause: { type: 'TypeError', message: 'inner', code: 'EINNER', status: 503 },
    })
    expect(JSON.stringify(parsed())).not.toContain('hunter2')
  })

  test('an error that stands for many is told with the first of them', () => {
    const { log, parsed } = logTo('info', 'json')
    const errors = Array.from({ length: 20 }, (_, number) => new Error(`error ${number}`))
    log.error({ err: new AggregateError(errors, 'many') }, 'it failed')
    const { err } = parsed()[0] as { err: { message: string; errors: { message: string }[] } }
    expect(err.message).toBe('many')
    expect(err.errors.map(({ message }) => message)).toEqual(
      [0, 1, 2, 3, 4].map((number) => `error ${number}`),
    )
    const text = logTo('info', 'text')
    text.log.error({ err: new AggregateError(errors, 'many') }, 'it failed')
    expect(text.lines.join('')).toMatch(/many\n[^]*Caused by Error: error 0\n[^]*Caused by Error: error 4\n/)
  })

  test('an error that causes itself does not hang the log', () => {
    const { log, lines } = logTo('info', 'json')
    const error = new Error('again')
    error.cause = error
    log.error({ err: error }, 'it failed')
    expect(lines).toHaveLength(1)
  })

  test('credentials that were handed to it by mistake are not written', () => {
    const { log, lines } = logTo('info', 'json')
    const headers = { authorization: 'Bearer hunter2', cookie: 'hunter2' }
    log.info({ headers, password: 'hunter2', token: 'hunter2', authorization: 'hunter2' }, 'oops')
    expect(lines.join()).not.toContain('hunter2')
  })

  test('for a terminal a line is plain, and nothing of a client moves the cursor or makes a line', () => {
    const { log, lines } = logTo('info', 'text')
    log.info({ path: '/v2/\u001b[2J\nfake', bytes: 3, name: 'a b' }, 'a request')
    expect(lines.join('')).toMatch(
      /^\d\d:\d\d:\d\d\.\d{3} INFO {2}a request path="\/v2\/\\u001b\[2J\\nfake" bytes=3 name=a b\n$/,
    )
  })

  test('for a terminal an error comes with its stack and its causes', () => {
    const { log, lines } = logTo('info', 'text')
    log.error({ err: new Error('outer', { cause: new Error('in\u001b[2Jner') }) }, 'it failed')
    expect(lines.join('')).toMatch(/ERROR it failed\nError: outer\n {4}at [^]*\nCaused by Error: inner\n/)
  })
})
