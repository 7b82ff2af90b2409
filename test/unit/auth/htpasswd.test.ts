import { describe, expect, test } from '@jest/globals'
import { HtpasswdInvalid, parseHtpasswd } from '../../../src/auth/htpasswd.ts'

const rest = 'abcdefghijklmnopqrstuuC5oQ0m0uiDPyk0jZk0tZ7ZJvXHx0lJ.e'
const hash = (kind = '2y', cost = '05') => `$${kind}$${cost}$${rest.slice(0, 53)}`

function problemOf(text: string): string {
  try {
    parseHtpasswd(text)
  } catch (error) {
    expect(error).toBeInstanceOf(HtpasswdInvalid)
    return (error as Error).message
  }
  throw new Error(`accepted: ${text}`)
}

describe('a file', () => {
  test('has a user a line; comments and empty lines are none', () => {
    const text = `# who\n\nalice:${hash()}\n   \nbob:${hash('2b', '12')}\n#eve:${hash()}\n`
    expect([...parseHtpasswd(text)]).toEqual([
      ['alice', hash('2b')],
      ['bob', hash('2b', '12')],
    ])
  })

  test('may be empty, may end without a newline, and may come from Windows', () => {
    expect(parseHtpasswd('').size).toBe(0)
    expect(parseHtpasswd('\n# nobody\n').size).toBe(0)
    expect([...parseHtpasswd(`\ufeffalice:${hash()}\r\nbob:${hash()}`).keys()]).toEqual(['alice', 'bob'])
  })

  test('names may be in any script, and mean nothing to JavaScript', () => {
    const text = ['jürgen', '用户', 'a b', '__proto__', 'constructor'].map((name) => `${name}:${hash()}\n`)
    expect([...parseHtpasswd(text.join('')).keys()]).toEqual([
      'jürgen',
      '用户',
      'a b',
      '__proto__',
      'constructor',
    ])
  })

  test.each(['2a', '2b', '2y'])('$%s$ is bcrypt, of every cost that htpasswd has', (kind) => {
    for (const cost of ['04', '05', '10', '12', '17']) {
      expect(parseHtpasswd(`a:${hash(kind, cost)}`).get('a')).toBe(hash('2b', cost))
    }
  })
})

describe('what is refused, with its line and what to do', () => {
  test.each([
    ['apr1', '$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00', ' but MD5 (apr1)'],
    ['MD5', '$1$abc$eIMz/iKDkbtys/uU7LEK00', ' but MD5'],
    ['SHA-1', '{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=', ' but SHA-1'],
    ['SHA-256', '$5$rounds=5000$abc$def', ' but SHA-256 (crypt)'],
    ['SHA-512', '$6$abc$def', ' but SHA-512 (crypt)'],
    ['Argon2', '$argon2id$v=19$m=65536,t=3,p=4$abc$def', ' but Argon2'],
    ['crypt', 'rqXexS6ZhobKA', ''],
    ['plain text', 'hunter2', ''],
    ['nothing', '', ''],
    ['bcrypt of long ago', hash('2'), ''],
    ['bcrypt of crypt_blowfish, broken', hash('2x'), ''],
    ['bcrypt cut short', hash().slice(0, -1), ''],
    ['bcrypt and more', `${hash()}:x`, ''],
    ['a salt of too many bits', `$2b$05$${'a'.repeat(22)}${rest.slice(22, 53)}`, ''],
    ['a hash of too many bits', `${hash().slice(0, -1)}f`, ''],
  ])('%s', (_, other, kind) => {
    const problem = problemOf(`alice:${hash()}\nbob:${other}\n`)
    expect(problem).toBe(
      `line 2: the hash of user "bob" is not bcrypt${kind}; make it anew with \`htpasswd -B\` (htpasswd -B FILE USER)`,
    )
    if (other !== '') expect(problem).not.toContain(other)
  })

  test.each(['00', '03', '18', '31', '99'])('bcrypt of cost %s', (cost) => {
    expect(problemOf(`bob:${hash('2y', cost)}`)).toBe(
      `line 1: the hash of user "bob" has the bcrypt cost ${Number(cost)}; expected 4 to 17`,
    )
  })

  test('a line without a user, which may be a password, is not repeated', () => {
    for (const line of ['hunter2', ':hunter2', `:${hash()}`]) {
      const problem = problemOf(`\n${line}`)
      expect(problem).toMatch(/^line 2: expected user:hash/)
      expect(problem).not.toContain('hunter2')
    }
  })

  test('a user who is there twice, and one whose name could not be sent', () => {
    expect(problemOf(`a:${hash()}\nb:${hash()}\na:${hash('2b', '10')}`)).toBe(
      'line 3: user "a" is there twice',
    )
    expect(problemOf(`a\u0007b:${hash()}`)).toBe('line 1: the name of the user has control characters')
    expect(problemOf(`"\u2028:x`)).toContain('user "\\"\u2028" is not bcrypt')
  })
})
