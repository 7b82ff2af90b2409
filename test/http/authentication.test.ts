/** How it is found out who asks: what that costs, how it changes, and what is told of it. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { digestOf } from '../../src/oci/digest.ts'
import { basicOf, openTestUsers, type TestUsers } from '../support/htpasswd.ts'
import { manualClock, type ManualClock } from '../support/manual-clock.ts'
import { sayRaw } from '../support/raw-connection.ts'
import {
  errorOf,
  openTestRegistry,
  pushBlob,
  until,
  type Send,
  type TestRegistry,
} from '../support/registry.ts'

let clock: ManualClock
let users: TestUsers
let at: TestRegistry

beforeEach(async () => {
  clock = manualClock()
  clock.advance(1)
  users = await openTestUsers({
    users: { alice: 'secret', jürgen: 'пароль €', long: 'x'.repeat(72) },
    limited: { 'team/app': { canary: 'tweet' } },
    clock,
  })
  at = await openTestRegistry({ accessControl: users.accessControl })
})
afterEach(async () => {
  await at[Symbol.asyncDispose]()
  await users[Symbol.asyncDispose]()
})

const statusOf = async (headers: Record<string, string | string[]>) =>
  (await at.send('GET /v2/', { headers })).status

/** Requests by a user. */
const as = (user: string, password: string): { send: Send } => ({
  send: async (target, options = {}) =>
    at.send(target, { ...options, headers: { ...basicOf(user, password), ...options.headers } }),
})

describe('credentials', () => {
  test('are UTF-8', async () => {
    expect(await statusOf(basicOf('jürgen', 'пароль €'))).toBe(200)
    const latin1 = Buffer.from('jürgen:secret', 'latin1').toString('base64')
    expect(await statusOf({ Authorization: `Basic ${latin1}` })).toBe(401)
  })

  test('with a password that bcrypt would cut off are refused, however they begin', async () => {
    expect(await statusOf(basicOf('long', 'x'.repeat(72)))).toBe(200)
    const answer = await at.send('GET /v2/', { headers: basicOf('long', 'x'.repeat(73)) })
    expect(errorOf(answer)).toBe('401 UNAUTHORIZED')
    expect(answer.body.toString()).toContain('none has more than 72 bytes')
    expect(users.comparisons()).toBe(1)
  })

  test('that come twice are refused: who knows which of them a proxy has looked at', async () => {
    const both = [basicOf('alice', 'secret'), basicOf('bob', 'x')].map(({ Authorization }) => Authorization)
    expect(await statusOf({ Authorization: both })).toBe(401)
    expect(await statusOf({ Authorization: [both[0] ?? '', both[0] ?? ''] })).toBe(401)
    expect(users.comparisons()).toBe(0)
  })

  test.each([
    ['empty', ''],
    ['spaces', '   '],
    ['a scheme alone', 'Basic'],
    ['no colon', `Basic ${Buffer.from('alice').toString('base64')}`],
    ['control characters', `Basic ${Buffer.from('alice:sec\0ret').toString('base64')}`],
    ['no Base64', 'Basic *****'],
    ['two in one', `${basicOf('alice', 'secret').Authorization}, Basic YTpi`],
    ['very long', `Basic ${'QUFB'.repeat(7_000)}`],
    ['a long user', basicOf('a'.repeat(20_000), 'secret').Authorization],
    ['other bytes', 'Basic \xe4\xf6\xfc\xff'],
    ['a name of JavaScript', basicOf('__proto__', 'secret').Authorization],
  ])('that are %s are a 401 in the form of the specification', async (_, header) => {
    const answer = await at.send('GET /v2/', { headers: { Authorization: header } })
    expect(errorOf(answer)).toBe('401 UNAUTHORIZED')
    expect(answer.headers['www-authenticate']).toMatch(/^Basic realm="/)
  })
})

describe('what it costs', () => {
  test('a request without credentials costs no comparison', async () => {
    for (let request = 0; request < 5; request++) expect(await statusOf({})).toBe(401)
    expect(await statusOf(basicOf('', ''))).toBe(401)
    expect(users.comparisons()).toBe(0)
  })

  test('a wrong password and an unknown user cost one, and tell the same', async () => {
    const [known, unknown] = [
      await at.send('GET /v2/', { headers: basicOf('alice', 'wrong') }),
      await at.send('GET /v2/', { headers: basicOf('nobody', 'wrong') }),
    ]
    expect(users.comparisons()).toBe(2)
    expect(unknown.body.toString()).toBe(known.body.toString())
    expect({ ...unknown.headers, date: '' }).toEqual({ ...known.headers, date: '' })
  })

  test('a whole push by one user costs one', async () => {
    await Promise.all(
      ['a', 'b', 'c', 'd', 'e'].map(async (blob) => pushBlob(as('alice', 'secret'), 'x', blob)),
    )
    expect(users.comparisons()).toBe(1)
  })

  test('a refused push is refused before its body is asked for', async () => {
    const answer = await sayRaw(
      at.port,
      'POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\nExpect: 100-continue\r\n\r\n',
    )
    expect(answer).toMatch(/^HTTP\/1\.1 401 /)
    expect(answer).not.toContain('100 Continue')
  })
})

describe('a change of the users', () => {
  /** Two rounds: a change is taken once the file stands still. */
  const isTaken = async (user: string, password: string, status: number) =>
    until(async () => {
      clock.advance(1_000)
      return (await statusOf(basicOf(user, password))) === status
    })

  test('is taken without a restart, and what was known before is forgotten at once', async () => {
    expect(await statusOf(basicOf('alice', 'secret'))).toBe(200)
    expect(await statusOf(basicOf('bob', 'hunter2'))).toBe(401)
    await users.write({ alice: 'new', bob: 'hunter2' })
    await isTaken('bob', 'hunter2', 200)
    expect(await statusOf(basicOf('alice', 'secret'))).toBe(401)
    expect(await statusOf(basicOf('alice', 'new'))).toBe(200)
    expect(await statusOf(basicOf('canary', 'tweet'))).toBe(200)
    await users.write({ bob: 'hunter2' })
    await isTaken('alice', 'new', 401)
    expect(await statusOf(basicOf('bob', 'hunter2'))).toBe(200)
  })
})

describe('mounts', () => {
  const digest = digestOf(Buffer.from('content'))
  const mount = async (by: { send: Send }, from?: string) =>
    (await by.send(`POST /v2/team/app/blobs/uploads/?mount=${digest}${from ? `&from=${from}` : ''}`)).status
  const isThere = async () =>
    (await as('alice', 'secret').send(`HEAD /v2/team/app/blobs/${digest}`)).status === 200

  test('need pull on their source; without it, they are answered as if there was no such blob', async () => {
    await pushBlob(as('alice', 'secret'), 'other', 'content')
    const canary = as('canary', 'tweet')
    const answers = ['other', 'none'].map(async (from) => {
      const target = `POST /v2/team/app/blobs/uploads/?mount=${digest}&from=${from}`
      const { status, headers, body } = await canary.send(target)
      return { status, names: Object.keys(headers).toSorted(), body: body.toString() }
    })
    const [there, absent] = await Promise.all(answers)
    expect(there).toEqual(absent)
    expect(there?.status).toBe(202)
    expect(await isThere()).toBe(false)
    expect(await mount(as('alice', 'secret'), 'other')).toBe(201)
    expect(await isThere()).toBe(true)
  })

  test('without a source find what the caller may read: all for some, their own for others', async () => {
    await pushBlob(as('alice', 'secret'), 'other', 'content')
    const canary = as('canary', 'tweet')
    expect(await mount(canary)).toBe(202)
    expect(await isThere()).toBe(false)
    expect(await mount(as('alice', 'secret'))).toBe(201)
    expect(await mount(canary)).toBe(201)
  })

  test('that are refused leave a session that can be used', async () => {
    await pushBlob(as('alice', 'secret'), 'other', 'content')
    const canary = as('canary', 'tweet')
    const { headers } = await canary.send(`POST /v2/team/app/blobs/uploads/?mount=${digest}&from=other`)
    const put = await canary.send(`PUT ${headers.location}?digest=${digest}`, { body: 'content' })
    expect(put.status).toBe(201)
    expect(await mount(canary, 'team/app')).toBe(201)
  })

  test('with a source whose name is none are refused', async () => {
    expect(await mount(as('canary', 'tweet'), 'NONE')).toBe(400)
  })
})

test('an upload of one repository is not reached through another', async () => {
  const { headers } = await as('alice', 'secret').send('POST /v2/other/blobs/uploads/')
  const path = String(headers.location)
  expect(errorOf(await as('canary', 'tweet').send(`GET ${path}`))).toBe('403 DENIED')
  const moved = path.replace('/other/', '/team/app/')
  for (const method of ['GET', 'PATCH', 'DELETE']) {
    expect(errorOf(await as('canary', 'tweet').send(`${method} ${moved}`))).toBe('404 BLOB_UPLOAD_UNKNOWN')
  }
})

test('no password, no hash and no header is in a log or an answer', async () => {
  const answers = [
    await at.send('GET /v2/', { headers: basicOf('alice', 'secret-wrong') }),
    await at.send('GET /v2/', { headers: { Authorization: 'Bearer secret-token' } }),
    await at.send('GET /v2/', { headers: { Authorization: 'Basic secret-garbage' } }),
    await as('canary', 'tweet').send('GET /v2/_catalog'),
    await as('alice', 'secret').send('GET /v2/NONE/tags/list'),
  ]
  await users.write({ alice: 'secret-new' })
  await until(async () => {
    clock.advance(1_000)
    return users.lines.length > 0
  })
  const told = answers.map(({ body, headers }) => JSON.stringify(headers) + body.toString())
  const logged = [...users.lines, ...at.lines]
  for (const line of [...told, ...logged]) {
    expect(line).not.toMatch(/secret|tweet|\$2[aby]\$|c2VjcmV0|dHdlZXQ|YWxpY2U6/)
  }
})
