/** Who gets what at each endpoint. What is decided of whom is test/unit/auth/access.test.ts. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import type { Policy } from '../../src/auth/access.ts'
import { withoutUsers } from '../../src/http/authorize.ts'
import { endpoints } from '../../src/http/endpoints.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { basicOf, openTestUsers, type TestUsers } from '../support/htpasswd.ts'
import { errorOf, openTestRegistry, type Answer, type TestRegistry } from '../support/registry.ts'

const digest = digestOf(Buffer.from('content'))
const id = '00000000-0000-4000-8000-000000000000'

/** A request at each endpoint, in the order of the table. */
const requests = [
  ['end-1', 'login', 'GET /v2/'],
  ['end-3', 'pull', 'HEAD /v2/NAME/manifests/v1'],
  ['end-3', 'pull', 'GET /v2/NAME/manifests/v1'],
  ['end-13', 'push', `GET /v2/NAME/blobs/uploads/${id}`],
  ['end-2', 'pull', `HEAD /v2/NAME/blobs/${digest}`],
  ['end-2', 'pull', `GET /v2/NAME/blobs/${digest}`],
  ['end-4, end-11', 'push', 'POST /v2/NAME/blobs/uploads/'],
  ['end-5', 'push', `PATCH /v2/NAME/blobs/uploads/${id}`],
  ['end-6', 'push', `PUT /v2/NAME/blobs/uploads/${id}?digest=${digest}`],
  ['end-7', 'push', 'PUT /v2/NAME/manifests/v1'],
  ['end-8', 'pull', 'GET /v2/NAME/tags/list'],
  ['end-9', 'delete', 'DELETE /v2/NAME/manifests/v1'],
  ['end-10', 'delete', `DELETE /v2/NAME/blobs/${digest}`],
  ['end-12', 'pull', `GET /v2/NAME/referrers/${digest}`],
  ['end-14', 'push', `DELETE /v2/NAME/blobs/uploads/${id}`],
  ['catalog', 'catalog', 'GET /v2/_catalog'],
] as const

test('each endpoint has its action', () => {
  expect(endpoints.map(({ id: number, method, action }) => [number, action, method])).toEqual(
    requests.map(([number, action, target]) => [number, action, target.split(' ')[0]?.toLowerCase()]),
  )
})

const challenge = 'Basic realm="stowage", charset="UTF-8"'

const callers = {
  anonymous: {},
  user: basicOf('alice', 'secret'),
  limited: basicOf('canary', 'tweet'),
  'wrong password': basicOf('alice', 'wrong'),
  'wrong password of a limited one': basicOf('canary', 'secret'),
  'unknown user': basicOf('bob', 'secret'),
  'no password': basicOf('alice', ''),
  'empty credentials': basicOf('', ''),
  'another scheme': { Authorization: 'Bearer secret' },
  garbage: { Authorization: 'Basic garbage!' },
} as const

type Outcome = 'allowed' | '401 UNAUTHORIZED' | '403 DENIED'

type Action = (typeof requests)[number][1]

const openTo: Readonly<Record<Policy['anonymous'], readonly Action[]>> = {
  none: [],
  pull: ['pull', 'catalog'],
  full: ['login', 'catalog', 'pull', 'push', 'delete'],
}
const withoutCredentials: readonly string[] = ['anonymous', 'empty credentials']

/** What is expected of a caller; the repository of the limited one is stowage-canary. */
function expected(
  allowed: Policy['anonymous'],
  caller: keyof typeof callers,
  { action, name }: { readonly action: Action; readonly name: string },
): Outcome {
  if (caller === 'user') return 'allowed'
  const isOpen = openTo[allowed].includes(action)
  if (caller === 'limited') {
    const isTheirs = action === 'login' || (name === 'stowage-canary' && action !== 'catalog')
    return isOpen || isTheirs ? 'allowed' : '403 DENIED'
  }
  return isOpen && withoutCredentials.includes(caller) ? 'allowed' : '401 UNAUTHORIZED'
}

/** What became of a request, and whether it was told as it has to be. */
function outcomeOf(target: string, answer: Answer): Outcome {
  const isHead = target.startsWith('HEAD')
  if (isHead) expect(answer.body).toHaveLength(0)
  expect(answer.headers['www-authenticate']).toBe(answer.status === 401 ? challenge : undefined)
  if (answer.status !== 401 && answer.status !== 403) return 'allowed'
  if (!isHead) return errorOf(answer) as Outcome
  return answer.status === 401 ? '401 UNAUTHORIZED' : '403 DENIED'
}

describe.each(['none', 'pull', 'full'] as const)('--anonymous %s', (allowed) => {
  let users: TestUsers
  let at: TestRegistry

  beforeAll(async () => {
    users = await openTestUsers({
      users: { alice: 'secret' },
      limited: { 'stowage-canary': { canary: 'tweet' } },
      anonymous: allowed,
    })
    at = await openTestRegistry({ accessControl: users.accessControl })
  })
  afterAll(async () => {
    await at[Symbol.asyncDispose]()
    await users[Symbol.asyncDispose]()
  })

  test.each(Object.keys(callers) as (keyof typeof callers)[])('%s at every endpoint', async (caller) => {
    for (const name of ['stowage-canary', 'stowage-canary/more', 'team/app']) {
      for (const [, action, path] of requests) {
        const target = path.replace('NAME', name)
        const answer = await at.send(target, { headers: callers[caller], body: '' })
        expect([target, outcomeOf(target, answer)]).toEqual([
          target,
          expected(allowed, caller, { action, name }),
        ])
      }
    }
  })

  test('what is no endpoint, or no name, is told only to those who may anything', async () => {
    for (const [target, status] of [
      ['GET /', 404],
      ['GET /v2/x', 404],
      ['GET /v1/search', 404],
      ['DELETE /v2/', 405],
      ['PUT /v2/team/app/tags/list', 405],
      ['OPTIONS /v2/team/app/manifests/v1', 405],
      ['GET /v2/TEAM/tags/list', 400],
      ['GET /v2/%/tags/list', 400],
    ] as const) {
      const closed = allowed === 'none' ? 401 : status
      expect([target, (await at.send(target)).status]).toEqual([target, closed])
      expect([target, (await at.send(target, { headers: callers.garbage })).status]).toEqual([target, 401])
      expect([target, (await at.send(target, { headers: callers.limited })).status]).toEqual([target, status])
      expect([target, (await at.send(target, { headers: callers.user })).status]).toEqual([target, status])
    }
  })

  test('a repository that is there is refused like one that is not', async () => {
    for (const caller of ['anonymous', 'limited', 'wrong password'] as const) {
      const refusals = ['team/app', 'team/none'].map(async (name) => {
        const { status, headers, body } = await at.send(`DELETE /v2/${name}/manifests/v1`, {
          headers: callers[caller],
        })
        return {
          status,
          challenge: headers['www-authenticate'],
          body: body.toString().replaceAll(name, 'NAME'),
        }
      })
      const [there, absent] = await Promise.all(refusals)
      expect(there).toEqual(absent)
    }
  })
})

describe('without users', () => {
  test('nobody is asked to log in where nobody can: 403 and no challenge', async () => {
    await using at = await openTestRegistry({ accessControl: withoutUsers('pull') })
    const answer = await at.send('POST /v2/team/app/blobs/uploads/')
    expect(errorOf(answer)).toBe('403 DENIED')
    expect(answer.headers).not.toHaveProperty('www-authenticate')
    expect(answer.body.toString()).toContain('nobody may push team/app')
    expect((await at.send('GET /v2/')).status).toBe(200)
    expect(errorOf(await at.send('GET /v2/team/app/manifests/v1'))).toBe('404 MANIFEST_UNKNOWN')
  })

  test('credentials that a client has for something else change nothing', async () => {
    await using at = await openTestRegistry({ accessControl: withoutUsers('full') })
    for (const headers of Object.values(callers)) {
      expect((await at.send('GET /v2/', { headers })).status).toBe(200)
      expect((await at.send('POST /v2/team/app/blobs/uploads/', { headers })).status).toBe(202)
    }
  })
})
