/** Connections, over TCP and over TLS on top of it. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import * as http from 'node:http'
import type { IncomingMessage } from 'node:http'
import * as https from 'node:https'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { text } from 'node:stream/consumers'
import * as tls from 'node:tls'
import { systemClock } from '../../../src/clock.ts'
import { openCertificates, type CertificateStore } from '../../../src/http/certificate-store.ts'
import type { Refusal } from '../../../src/http/raw-refusal.ts'
import { listen, type Handle, type HttpServer, type ListenOptions } from '../../../src/http/server.ts'
import { createLog } from '../../../src/telemetry/log.ts'
import { createAuthority, writeCertificate } from '../../support/certificates.ts'
import { receiveAll } from '../../support/raw-connection.ts'

const opened: { server?: HttpServer; sockets: Socket[] } = { sockets: [] }

afterEach(async () => {
  for (const socket of opened.sockets.splice(0)) socket.destroy()
  await opened.server?.drain(0)
  delete opened.server
})

let folder = ''
let ca = ''
let certificates: CertificateStore

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stowage-server-'))
  const authority = await createAuthority()
  ca = authority.certificate
  const files = await writeCertificate(folder, 'tls', await authority.issue(['127.0.0.1']))
  certificates = await openCertificates({ files, clock: systemClock, log: createLog({ level: 'warn' }) })
})
afterAll(async () => {
  await certificates.close()
  await rm(folder, { recursive: true })
})

describe.each(['HTTP', 'HTTPS'])('%s', (scheme) => {
  const isTls = scheme === 'HTTPS'

  async function serve(handle: Handle, options: Partial<ListenOptions> = {}): Promise<HttpServer> {
    const secure = isTls ? { certificates } : {}
    opened.server = await listen(handle, {
      host: '127.0.0.1',
      port: 0,
      clock: systemClock,
      ...secure,
      ...options,
    })
    return opened.server
  }

  async function open({ port }: HttpServer): Promise<Socket> {
    const socket = isTls ? tls.connect(port, '127.0.0.1', { ca }) : connect(port, '127.0.0.1')
    opened.sockets.push(socket)
    socket.on('error', () => undefined)
    await once(socket, isTls ? 'secureConnect' : 'connect')
    return socket
  }

  /** What comes back until the server ends the connection. */
  async function answerTo(server: HttpServer, bytes: string): Promise<string> {
    const socket = await open(server)
    socket.write(bytes)
    return receiveAll(socket)
  }

  const answerOk: Handle = (_, response) => {
    response.end('ok')
  }

  /** Answers when it has read the whole body, with its length. */
  const measure: Handle = async (incoming, response) => {
    let length = 0
    try {
      for await (const chunk of incoming) length += (chunk as Buffer).length
      response.end(String(length))
    } catch {
      response.destroy()
    }
  }

  const get = 'GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n'

  function errorsIn(answer: string): unknown {
    expect(answer).toMatch(/^Content-Type: application\/json\r$/im)
    const body = answer.slice(answer.indexOf('\r\n\r\n') + 4)
    expect(answer).toMatch(new RegExp(`^Content-Length: ${Buffer.byteLength(body)}\r$`, 'im'))
    return JSON.parse(body)
  }

  describe('what is no request', () => {
    test.each([
      ['nonsense', 'nonsense\r\n\r\n', 400],
      ['an unknown method', 'FETCH /v2/ HTTP/1.1\r\nHost: a\r\n\r\n', 400],
      [
        'two lengths',
        'PUT /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab',
        400,
      ],
      ['a length that is none', 'PUT /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1x\r\n\r\na', 400],
      [
        'a length beside chunks',
        'PUT /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
        400,
      ],
      ['a control character in a header', 'GET /v2/ HTTP/1.1\r\nHost: a\r\nX: a\u0001b\r\n\r\n', 400],
      ['no Host', 'GET /v2/ HTTP/1.1\r\n\r\n', 400],
      ['headers without end', `GET /v2/ HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(40_000)}\r\n\r\n`, 431],
    ])('%s gets a JSON error, and never reaches the application', async (_, bytes, status) => {
      let calls = 0
      const refused: Refusal[] = []
      const count: Handle = (incoming, response) => {
        calls++
        return answerOk(incoming, response)
      }
      const server = await serve(count, { onRefused: (refusal) => refused.push(refusal) })
      const answer = await answerTo(server, bytes)
      expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
      expect(errorsIn(answer)).toEqual({ errors: [{ code: 'UNSUPPORTED', message: expect.any(String) }] })
      expect(answer).toMatch(/^Connection: close\r$/im)
      expect(calls).toBe(0)
      expect(refused).toEqual([{ status, reason: expect.any(String), remote: '127.0.0.1' }])
    })

    test.each([
      ['malformed', 'nonsense\r\n\r\n'],
      ['no-host', 'GET /v2/ HTTP/1.1\r\n\r\n'],
      ['head-too-large', `GET /v2/ HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(40_000)}\r\n\r\n`],
      ['head-too-slow', 'GET /v2/ HTTP/1.1\r\nHost: a\r\nX: '],
      [
        'chunk-extensions-too-large',
        `PUT /v2/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;${'x'.repeat(40_000)}\r\na\r\n`,
      ],
    ])('the caller is told the reason: %s', async (reason, bytes) => {
      const reasons: string[] = []
      const server = await serve(measure, {
        headersMs: 200,
        onRefused: (refusal) => reasons.push(refusal.reason),
      })
      await answerTo(server, bytes)
      expect(reasons).toEqual([reason])
    })

    test('nobody is told where nothing was refused: a client that says nothing, or is answered', async () => {
      const refused: Refusal[] = []
      const server = await serve(answerOk, { onRefused: (refusal) => refused.push(refusal) })
      const leaver = await open(server)
      leaver.destroy()
      await answerTo(server, 'GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
      expect(refused).toEqual([])
    })

    test('a head that does not come in time gets 408', async () => {
      const server = await serve(answerOk, { headersMs: 200 })
      const answer = await answerTo(server, 'GET /v2/ HTTP/1.1\r\nHost: a\r\nX: ')
      expect(answer).toMatch(/^HTTP\/1.1 408 /)
      expect(errorsIn(answer)).toMatchObject({ errors: [{ code: 'UNSUPPORTED' }] })
    })

    test('a chunk that is none ends the connection of a request whose answer has begun', async () => {
      const server = await serve(async (incoming, response) => {
        response.write('begun')
        await measure(incoming, response)
      })
      const socket = await open(server)
      socket.write('PUT /v2/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n')
      await once(socket, 'data')
      socket.write('nonsense\r\n')
      const rest = await receiveAll(socket)
      expect(rest).not.toContain('HTTP/1.1')
    })

    test('HTTP/1.0 needs no Host', async () => {
      expect(await answerTo(await serve(answerOk), 'GET /v2/ HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1.1 200 /)
    })
  })

  describe('Expect: 100-continue', () => {
    const head = 'PUT /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n'

    test('what is refused by its head is answered without the body, and the connection ends', async () => {
      const server = await serve((_, response) => {
        response.writeHead(401).end('no')
      })
      const answer = await answerTo(server, head)
      expect(answer).toMatch(/^HTTP\/1.1 401 /)
      expect(answer).toMatch(/^Connection: close\r$/im)
    })

    test('the body is asked for when the application reads it, and the connection stays', async () => {
      const server = await serve(measure)
      const socket = await open(server)
      socket.write(head)
      const [interim] = (await once(socket, 'data')) as [Buffer]
      expect(interim.toString()).toBe('HTTP/1.1 100 Continue\r\n\r\n')
      socket.write('abc')
      const [answer] = (await once(socket, 'data')) as [Buffer]
      expect(answer.toString()).toMatch(/^HTTP\/1.1 200 [^]*Connection: keep-alive[^]*3/)
      socket.write(get)
      const [next] = (await once(socket, 'data')) as [Buffer]
      expect(next.toString()).toMatch(/^HTTP\/1.1 200 /)
    })
  })

  describe('a silent connection', () => {
    test('ends where the client owes its body', async () => {
      const server = await serve(measure, { idleMs: 200 })
      const answer = await answerTo(server, 'PUT /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na')
      expect(answer).toBe('')
    })

    test('ends where nothing was sent at all', async () => {
      expect(await answerTo(await serve(answerOk, { idleMs: 200 }), '')).toBe('')
    })

    test('ends where the client does not take the answer', async () => {
      let isClosed: Promise<unknown> | undefined
      const server = await serve(
        (_, response) => {
          isClosed = once(response, 'close')
          response.end(Buffer.alloc(64 * 2 ** 20))
        },
        { idleMs: 200 },
      )
      const socket = await open(server)
      socket.pause().write(get)
      while (!isClosed) await delay(5)
      await isClosed
      expect(server.port).toBeGreaterThan(0)
    })

    test('stays where the client waits for us', async () => {
      const server = await serve(
        async (incoming, response) => {
          for await (const _ of incoming);
          await delay(700)
          response.end('late')
        },
        { idleMs: 200 },
      )
      const answer = await answerTo(
        server,
        'PUT /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\na',
      )
      expect(answer).toMatch(/late$/)
    })

    test('stays where we are the ones who do not read the body', async () => {
      const server = await serve(
        async (incoming, response) => {
          await delay(700)
          await measure(incoming, response)
        },
        { idleMs: 200 },
      )
      const socket = await open(server)
      const size = 3 * 2 ** 20
      socket.write(`PUT /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: ${size}\r\n\r\n`)
      socket.write(Buffer.alloc(size))
      expect(await receiveAll(socket)).toMatch(new RegExp(`${size}$`))
    })
  })

  test('an idle connection is kept for 75 s, longer than load balancers keep theirs', async () => {
    const socket = await open(await serve(answerOk))
    socket.write(get)
    const [answer] = (await once(socket, 'data')) as [Buffer]
    expect(answer.toString()).toMatch(/^Keep-Alive: timeout=75\r$/m)
  })

  describe('drain', () => {
    /** A request whose answer begins at once and ends when it is told to. */
    async function startSlow(server: HttpServer): Promise<IncomingMessage> {
      const { Agent, request } = isTls ? https : http
      const agent = new Agent({ keepAlive: true })
      const outgoing = request({ port: server.port, host: '127.0.0.1', agent, ca }).end()
      outgoing.on('socket', (socket) => opened.sockets.push(socket))
      const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage]
      return incoming
    }

    test('lets a running request end, takes no new one, and ends at once with it', async () => {
      const finish = Promise.withResolvers<void>()
      const server = await serve(async (_, response) => {
        response.write('begun ')
        await finish.promise
        response.end('done')
      })
      const running = await startSlow(server)
      const began = performance.now()
      const drained = server.drain(10_000)
      await expect(open(server)).rejects.toThrow('ECONNREFUSED')
      finish.resolve()
      expect(await text(running)).toBe('begun done')
      expect(await drained).toBe(0)
      expect(performance.now() - began).toBeLessThan(5_000)
    })

    test('tells a client whose answer has not begun that the connection ends', async () => {
      const finish = Promise.withResolvers<void>()
      const started = Promise.withResolvers<void>()
      const server = await serve(async (_, response) => {
        started.resolve()
        await finish.promise
        response.end('done')
      })
      const socket = await open(server)
      socket.write(get)
      await started.promise
      const drained = server.drain(10_000)
      finish.resolve()
      expect(await receiveAll(socket)).toMatch(/Connection: close[^]*done$/)
      expect(await drained).toBe(0)
    })

    test('closes connections that are idle, used or not, at once', async () => {
      const server = await serve(answerOk)
      const unused = await open(server)
      const used = await open(server)
      used.write(get)
      await once(used, 'data')
      const ended = Promise.all([receiveAll(unused), receiveAll(used)])
      expect(await server.drain(10_000)).toBe(0)
      await ended
    })

    test('cuts what still runs when its time is over, and counts it', async () => {
      const server = await serve((_, response) => {
        response.write('begun')
      })
      const running = await startSlow(server)
      const failed = expect(text(running)).rejects.toThrow(/aborted/)
      expect(await server.drain(100)).toBe(1)
      await failed
    })
  })

  test('a client that sends on after its answer is cut off after a while', async () => {
    const refuse: Handle = (_, response) => {
      response.writeHead(413).end('too large')
    }
    const server = await serve(refuse, { lingerMs: 300 })
    const socket = await open(server)
    socket.write('PUT /v2/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n')
    const sender = setInterval(() => socket.write('1\r\na\r\n'), 50)
    try {
      expect(await receiveAll(socket)).toMatch(/^HTTP\/1.1 413 [^]*too large/)
    } finally {
      clearInterval(sender)
    }
  })
})

test('a port that is taken is an error of its own code', async () => {
  const answerOk: Handle = (_, response) => void response.end('ok')
  opened.server = await listen(answerOk, { host: '127.0.0.1', port: 0, clock: systemClock })
  const { port } = opened.server
  await expect(listen(answerOk, { host: '127.0.0.1', port, clock: systemClock })).rejects.toMatchObject({
    code: 'EADDRINUSE',
  })
})
