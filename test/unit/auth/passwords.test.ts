/** Comparisons are counted, not timed; what compares is bcrypt itself. */
import { describe, expect, test } from '@jest/globals'
import bcrypt from 'bcrypt'
import { parseHtpasswd } from '../../../src/auth/htpasswd.ts'
import { boundComparisons, passwordVerifier, type Compare, type Verify } from '../../../src/auth/passwords.ts'
import type { User } from '../../../src/auth/users.ts'
import { manualClock } from '../../support/manual-clock.ts'

/** The hash of a comparison, for each. */
function countedCompare() {
  const compared: string[] = []
  const compare: Compare = (password, hash) => {
    compared.push(hash)
    return bcrypt.compare(password, hash)
  }
  return { compare, compared }
}

const hashOf = (password: string, cost = 4) => bcrypt.hashSync(password, cost)
const alice: User = { hash: hashOf('secret') }
const bob: User = { hash: hashOf('hunter2', 5) }

function open(users: Readonly<Record<string, User>> = { alice, bob }) {
  const clock = manualClock()
  const counted = countedCompare()
  const verify = passwordVerifier(new Map(Object.entries(users)), { ...counted, clock })
  return { ...counted, clock, verify }
}

const ask = (verify: Verify, user: string, password: string) => verify({ user, password })

describe('who it is', () => {
  test('the user whose password it is, and nobody for any other', async () => {
    const { verify } = open()
    expect(await ask(verify, 'alice', 'secret')).toBe(alice)
    expect(await ask(verify, 'bob', 'hunter2')).toBe(bob)
    for (const [user, password] of [
      ['alice', 'hunter2'],
      ['alice', ''],
      ['alice', 'secret '],
      ['alice', 'Secret'],
      ['Alice', 'secret'],
      ['', 'secret'],
      ['carol', 'secret'],
      ['carol', 'hunter2'],
      ['__proto__', 'secret'],
    ] as const) {
      expect([user, password, await ask(verify, user, password)]).toEqual([user, password, undefined])
    }
  })

  /** By the C library's crypt(3), which Apache's htpasswd shares its bcrypt with. */
  test.each([
    ['open sesame', '$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW'],
    ['п€', '$2y$04$abcdefghijklmnopqrstuuGo1rotIDcuH4q4H7ILbYkhhHnB0fW4.'],
    ['x'.repeat(72), '$2y$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i'],
  ])('%s, in a file that another program has written', async (password, hash) => {
    const written = parseHtpasswd(`alice:${hash}\n`).get('alice') ?? ''
    const { verify } = open({ alice: { hash: written } })
    expect(await ask(verify, 'alice', password)).toEqual({ hash: written })
    expect(await ask(verify, 'alice', `${password.slice(0, -1)}y`)).toBeUndefined()
  })

  test('where there are no users it is nobody', async () => {
    const { verify, compared } = open({})
    expect(await ask(verify, 'alice', 'secret')).toBeUndefined()
    expect(compared).toEqual([])
  })
})

describe('what it costs', () => {
  test('an unknown user costs what a wrong password costs: one comparison', async () => {
    const { verify, compared } = open()
    await ask(verify, 'alice', 'wrong')
    expect(compared).toEqual([alice.hash])
    await ask(verify, 'carol', 'wrong')
    expect(compared).toHaveLength(2)
  })

  test('an unknown user costs as much as one of the known ones, always the same, also after a restart', async () => {
    const { verify, compared } = open()
    for (const name of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j']) await ask(verify, name, 'x')
    expect(new Set(compared)).toEqual(new Set([alice.hash, bob.hash]))
    const other = open()
    for (const name of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j']) await ask(other.verify, name, 'y')
    expect(other.compared).toEqual(compared)
  })

  test('an unknown user who guesses the password of the one whose hash is compared stays nobody', async () => {
    const { verify, compared } = open({ alice })
    expect(await ask(verify, 'carol', 'secret')).toBeUndefined()
    expect(await ask(verify, 'carol', 'secret')).toBeUndefined()
    expect(await ask(verify, 'alice', 'secret')).toBe(alice)
    expect(compared).toEqual([alice.hash, alice.hash])
  })

  test('several requests at once with the same credentials share one comparison', async () => {
    const { verify, compared } = open()
    const right = await Promise.all(Array.from({ length: 20 }, async () => ask(verify, 'alice', 'secret')))
    expect(right).toEqual(Array(20).fill(alice))
    const wrong = await Promise.all(Array.from({ length: 20 }, async () => ask(verify, 'carol', 'secret')))
    expect(wrong).toEqual(Array(20).fill(undefined))
    expect(compared).toHaveLength(2)
  })

  test('a comparison that fails is not kept: the next request asks again', async () => {
    let isBroken = true
    const clock = manualClock()
    const compare: Compare = async (password, hash) => {
      if (isBroken) throw new Error('no memory')
      return bcrypt.compare(password, hash)
    }
    const verify = passwordVerifier(new Map([['alice', alice]]), { compare, clock })
    await expect(ask(verify, 'alice', 'secret')).rejects.toThrow('no memory')
    isBroken = false
    expect(await ask(verify, 'alice', 'secret')).toBe(alice)
  })
})

describe('for how long an answer is taken as given', () => {
  test('a right one for a minute, a wrong one for ten seconds', async () => {
    const { verify, compared, clock } = open()
    clock.advance(1_000)
    const both = async () => [await ask(verify, 'alice', 'secret'), await ask(verify, 'alice', 'wrong')]
    expect(await both()).toEqual([alice, undefined])
    expect(await both()).toEqual([alice, undefined])
    expect(compared).toHaveLength(2)
    clock.advance(9_000)
    await both()
    expect(compared).toHaveLength(2)
    clock.advance(2_000)
    expect(await both()).toEqual([alice, undefined])
    expect(compared).toHaveLength(3)
    clock.advance(50_000)
    expect(await both()).toEqual([alice, undefined])
    expect(compared).toHaveLength(5)
  })

  test('guesses by the thousand do not push out who is right', async () => {
    const { compare, compared } = countedCompare()
    const quick: Compare = async (password, hash) => (password === 'secret' ? compare(password, hash) : false)
    const verify = passwordVerifier(new Map([['alice', alice]]), { compare: quick, clock: manualClock() })
    await ask(verify, 'alice', 'secret')
    for (let guess = 0; guess < 3_000; guess++) await ask(verify, 'alice', `guess ${guess}`)
    expect(await ask(verify, 'alice', 'secret')).toBe(alice)
    expect(compared).toHaveLength(1)
  })
})

describe('many at once', () => {
  /** Comparisons that end when a test says so. */
  function slowCompare() {
    const waiting: (() => void)[] = []
    const compare: Compare = () => new Promise((resolve) => waiting.push(() => resolve(false)))
    return { compare: boundComparisons(compare), waiting }
  }

  test('two are compared at once, a number waits, and the rest is told to come again', async () => {
    const { compare, waiting } = slowCompare()
    const answers = Array.from({ length: 100 }, async (_, index) => compare(`guess ${index}`, alice.hash))
    const settled = Promise.allSettled(answers)
    await new Promise(setImmediate)
    expect(waiting).toHaveLength(2)
    let ended = 0
    while (ended < waiting.length) {
      waiting[ended++]?.()
      await new Promise(setImmediate)
    }
    const refused = (await settled).filter(({ status }) => status === 'rejected')
    expect(ended).toBeGreaterThan(50)
    expect(ended + refused.length).toBe(100)
    for (const { reason } of refused as PromiseRejectedResult[]) {
      expect(reason).toMatchObject({ code: 'UNAVAILABLE', status: 503, headers: { 'Retry-After': '1' } })
    }
    const next = compare('another', alice.hash)
    await new Promise(setImmediate)
    waiting.at(-1)?.()
    expect(await next).toBe(false)
  })

  test('the event loop goes on meanwhile', async () => {
    const compare = boundComparisons()
    const hash = hashOf('secret', 10)
    let turns = 0
    const counting = setInterval(() => turns++, 1)
    expect(await Promise.all([compare('secret', hash), compare('wrong', hash)])).toEqual([true, false])
    clearInterval(counting)
    expect(turns).toBeGreaterThan(5)
  })
})
