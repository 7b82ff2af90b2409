/** Are these the user's credentials? bcrypt says it, on Node's thread pool, and is asked as seldom as possible. */
import { createHash, createHmac, randomBytes } from 'node:crypto'
import bcrypt from 'bcrypt'
import { LRUCache } from 'lru-cache'
import pLimit from 'p-limit'
import type { Clock } from '../clock.ts'
import { OciError } from '../oci/errors.ts'
import type { Credentials } from './challenge.ts'
import type { User, Users } from './users.ts'

/** bcrypt ignores what follows: two tokens that begin alike would be one password. Longer ones are refused. */
export const maxPasswordBytes = 72

/** Whether the bcrypt hash is that of the password. */
export type Compare = (password: string, hash: string) => Promise<boolean>

/** The thread pool has four threads by default, and files are read on it too. */
const comparisonsAtOnce = 2
/** With two at once and 0.1 s each (bcrypt's cost 10) the last of them waits for some 3 s. */
const maxWaiting = 64

/** Bounded: guesses by the thousand cost the others nothing but their first login. */
export function boundComparisons(compare: Compare = bcrypt.compare): Compare {
  const limit = pLimit(comparisonsAtOnce)
  return async (password, hash) => {
    if (limit.pendingCount < maxWaiting) return limit(compare, password, hash)
    throw new OciError('UNAVAILABLE', {
      message: 'too many logins at once; try again',
      headers: { 'Retry-After': '1' },
    })
  }
}

/** How long an answer of bcrypt is taken as given. A change of the users ends it earlier: they get a new verifier. */
const rightMs = 60_000
/** Shorter, and in a cache of its own: guesses must not push out who is right. */
const wrongMs = 10_000
const maxAnswers = 1_000

/** The user whose credentials these are. */
export type Verify = (credentials: Credentials) => Promise<User | undefined>

export interface VerifierOptions {
  readonly compare: Compare
  readonly clock: Clock
}

/** An unknown user costs what a wrong password costs: one comparison, with the hash of somebody else. */
export function passwordVerifier(users: Users, { compare, clock }: VerifierOptions): Verify {
  const answersFor = (ttl: number) =>
    new LRUCache<string, boolean>({
      max: maxAnswers,
      ttl,
      ttlResolution: 0,
      perf: { now: () => clock.monotonic() },
    })
  const right = answersFor(rightMs)
  const wrong = answersFor(wrongMs)
  const running = new Map<string, Promise<boolean>>()
  const secret = randomBytes(32)
  const decoyFor = decoys(users)

  const ask = async (key: string, password: string, hash: string) => {
    try {
      const isRight = await compare(password, hash)
      ;(isRight ? right : wrong).set(key, isRight)
      return isRight
    } finally {
      running.delete(key)
    }
  }

  return async ({ user: name, password }) => {
    const user = users.get(name)
    const decoy = decoyFor(name)
    const hash = user?.hash ?? decoy
    if (hash === undefined) return undefined
    // What is kept tells nothing about the password. No part has a control character, so the parts stay apart.
    const key = createHmac('sha256', secret).update(`${name}\0${hash}\0${password}`).digest('base64')
    const isRight = right.get(key) ?? wrong.get(key) ?? running.get(key)
    if (isRight !== undefined) return (await isRight) ? user : undefined
    const asking = ask(key, password, hash)
    running.set(key, asking)
    return (await asking) ? user : undefined
  }
}

/**
 * For a name that nobody has, the hash that one of the users has, always the same: the costs of hashes may differ, and
 * what a name costs does not tell whether it is somebody's. Undefined where there are no users at all.
 */
function decoys(users: Users): (name: string) => string | undefined {
  const hashes = [...users.values()].map(({ hash }) => hash)
  // The same after a restart, and on every replica.
  const secret = createHash('sha256').update(hashes.join('\n')).digest()
  return (name) => {
    const digest = createHmac('sha256', secret).update(name).digest()
    return hashes[digest.readUInt32BE() % hashes.length]
  }
}
