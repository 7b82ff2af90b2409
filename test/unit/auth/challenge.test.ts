import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { parseAuthorization, unauthorized } from '../../../src/auth/challenge.ts'
import { OciError } from '../../../src/oci/errors.ts'

const base64 = (text: string | Uint8Array) => Buffer.from(text).toString('base64')
const basicOf = (text: string | Uint8Array) => `Basic ${base64(text)}`

function errorOf(header: string): OciError {
  try {
    parseAuthorization(header)
  } catch (error) {
    return error as OciError
  }
  throw new Error(`accepted: ${header}`)
}

describe('the challenge', () => {
  test('asks for Basic credentials in UTF-8', () => {
    expect(unauthorized()).toMatchObject({
      code: 'UNAUTHORIZED',
      status: 401,
      headers: { 'WWW-Authenticate': 'Basic realm="stowage", charset="UTF-8"' },
    })
  })
})

describe('the credentials', () => {
  test.each([
    [basicOf('alice:secret'), 'alice', 'secret'],
    [`basic ${base64('alice:secret')}`, 'alice', 'secret'],
    [`BASIC   ${base64('alice:secret')}`, 'alice', 'secret'],
    [basicOf('alice:'), 'alice', ''],
    [basicOf(':secret'), '', 'secret'],
    [basicOf('alice:a:b:c'), 'alice', 'a:b:c'],
    [basicOf(' alice : secret '), ' alice ', ' secret '],
    [basicOf('jürgen:пароль €'), 'jürgen', 'пароль €'],
    [basicOf('\ufeffalice:secret'), '\ufeffalice', 'secret'],
    [basicOf('__proto__:constructor'), '__proto__', 'constructor'],
  ])('%s', (header, user, password) => {
    expect(parseAuthorization(header)).toEqual({ user, password })
  })

  test('empty ones are none: podman and skopeo send them when they have none', () => {
    expect(parseAuthorization('Basic Og==')).toBeUndefined()
  })

  test('come back as they were, whatever they are', () => {
    const text = fc.string({ unit: 'grapheme' }).filter((value) => !/\p{Cc}/u.test(value))
    fc.assert(
      fc.property(
        text.filter((value) => !value.includes(':')),
        text,
        (user, password) => {
          fc.pre(user !== '' || password !== '')
          expect(parseAuthorization(basicOf(`${user}:${password}`))).toEqual({ user, password })
        },
      ),
    )
  })
})

describe('what is no Basic header is a 401, and not repeated', () => {
  test.each([
    '',
    ' ',
    'Basic',
    'Basic ',
    `Basic${base64('a:b')}`,
    `Bearer ${base64('a:b')}`,
    `Digest username="a"`,
    base64('a:b'),
    `Basic ${base64('a:b')} `,
    `Basic ${base64('a:b')},Basic ${base64('a:b')}`,
    `Basic "${base64('a:b')}"`,
    `Basic ${base64('alice')}`,
    `Basic ${base64('alice:pass').replaceAll('=', '')}`,
    `Basic ${base64('alice:pass')}=`,
    'Basic YWxpY2U6c2VjcmV',
    'Basic YWxpY2U6c2VjcmV0Zh==',
    'Basic ====',
    'Basic -_-_',
    'Basic YWxp Y2U6',
    basicOf(Uint8Array.of(0x61, 0x3a, 0xff)),
    basicOf(Uint8Array.of(0x61, 0x3a, 0xc0, 0xaf)),
    basicOf(Uint8Array.of(0x6a, 0xfc, 0x3a, 0x62)),
    basicOf('ali\u0000ce:secret'),
    basicOf('alice:sec\u0000ret'),
    basicOf('alice:secret\n'),
    basicOf('alice:\u007f'),
    basicOf('alice:\u0085'),
  ])('%j', (header) => {
    const error = errorOf(header)
    expect(error).toMatchObject({ code: 'UNAUTHORIZED', status: 401 })
    expect(error.headers).toHaveProperty('WWW-Authenticate')
    expect(error.message).toMatch(/^malformed Authorization: expected /)
    if (header.length > 10) expect(JSON.stringify([error.message, error.detail])).not.toContain(header)
  })

  test('anything else, too: there is no other error', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.uint8Array().map(basicOf)), (header) => {
        try {
          parseAuthorization(header)
        } catch (error) {
          expect(error).toBeInstanceOf(OciError)
          expect(error).toMatchObject({ status: 401 })
        }
      }),
    )
  })

  test('a long header is looked at once', () => {
    const header = `Basic ${'A'.repeat(31_000)}!`
    const began = performance.now()
    for (let round = 0; round < 100; round++) errorOf(header)
    expect(performance.now() - began).toBeLessThan(1_000)
  })
})
