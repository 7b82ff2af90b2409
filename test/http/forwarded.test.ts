/** What a proxy, or whoever pretends to be one, says of the address that was asked changes no answer. */
import { expect, test } from '@jest/globals'
import { imageOf, openTestRegistry, pushBlob, pushImage, putManifest } from '../support/registry.ts'
import type { TestRegistry } from '../support/registry.ts'

const hostile = {
  Host: 'evil.example:81',
  Forwarded: 'for=1.2.3.4;host=evil.example;proto=gopher',
  'X-Forwarded-For': '1.2.3.4',
  'X-Forwarded-Host': 'evil.example',
  'X-Forwarded-Port': '81',
  'X-Forwarded-Prefix': '/evil',
  'X-Forwarded-Proto': 'gopher',
  'X-Original-URL': '/v2/evil/tags/list',
}

/** A registry whose every request comes with these headers. */
function deceive(at: TestRegistry): Pick<TestRegistry, 'send'> {
  return {
    send: (target, { headers, ...more } = {}) =>
      at.send(target, { ...more, headers: { ...headers, ...hostile } }),
  }
}

test('every Location is a path, whatever host and scheme a request claims', async () => {
  await using at = await openTestRegistry()
  const deceived = deceive(at)
  const session = await deceived.send('POST /v2/team/app/blobs/uploads/')
  expect(session.headers.location).toMatch(/^\/v2\/team\/app\/blobs\/uploads\/[^/]+$/)
  const part = await deceived.send(`PATCH ${session.headers.location}`, { body: 'abc' })
  expect(part.headers.location).toMatch(/^\/v2\/team\/app\/blobs\/uploads\/[^/]+$/)
  const blob = await pushBlob(at, 'team/app', '{}')
  const mounted = await deceived.send(`POST /v2/other/blobs/uploads/?mount=${blob}&from=team/app`)
  expect([mounted.status, mounted.headers.location]).toEqual([201, `/v2/other/blobs/${blob}`])
  const put = await putManifest(deceived, 'team/app', 'v1', imageOf([]))
  expect(put.status).toBe(201)
  expect(put.headers.location).toMatch(/^\/v2\/team\/app\/manifests\/sha256:[0-9a-f]{64}$/)
})

test('so is every Link, and the answers are the same as without these headers', async () => {
  await using at = await openTestRegistry()
  for (const tag of ['v1', 'v2', 'v3']) await pushImage(at, 'team/app', tag)
  for (const target of ['GET /v2/team/app/tags/list?n=2', 'GET /v2/team/app/manifests/v1', 'GET /v2/']) {
    const { headers, ...answer } = await deceive(at).send(target)
    const plain = await at.send(target)
    expect(answer).toEqual({ status: plain.status, body: plain.body })
    expect(headers.link).toBe(plain.headers.link)
    expect(JSON.stringify([headers, answer.body.toString()])).not.toMatch(/evil|gopher/)
  }
  const { headers } = await deceive(at).send('GET /v2/team/app/tags/list?n=2')
  expect(headers.link).toMatch(/^<\/v2\/team\/app\/tags\/list\?[^>]*>; rel="next"$/)
})
