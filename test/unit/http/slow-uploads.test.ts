import { expect, test } from '@jest/globals'
import { channel } from 'node:diagnostics_channel'
import type { Server } from 'node:http'
import { systemClock } from '../../../src/clock.ts'
import { listen } from '../../../src/http/server.ts'

test('no time is set for a whole request: a large upload over a slow line may take longer than 300 s', async () => {
  const servers: Server[] = []
  const note = (message: unknown) => servers.push((message as { server: Server }).server)
  const started = channel('http.server.request.start')
  started.subscribe(note)
  const server = await listen((_, response) => void response.end(), {
    host: '127.0.0.1',
    port: 0,
    clock: systemClock,
  })
  try {
    await (await fetch(`http://127.0.0.1:${server.port}/`)).text()
    const timeouts = servers.map(({ requestTimeout, timeout, headersTimeout, keepAliveTimeout }) => ({
      requestTimeout,
      timeout,
      headersTimeout,
      keepAliveTimeout,
    }))
    const expected = { requestTimeout: 0, timeout: 120_000, headersTimeout: 20_000, keepAliveTimeout: 75_000 }
    expect(timeouts).toEqual([expected])
  } finally {
    started.unsubscribe(note)
    await server.drain(0)
  }
})
