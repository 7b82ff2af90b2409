/** Apache's htpasswd files, with bcrypt alone: pure. */

/** A file that is no htpasswd file of ours: where and why, without what stands there, which may be a password. */
export class HtpasswdInvalid extends Error {
  override readonly name = 'HtpasswdInvalid'
}

/**
 * Cost, salt and hash. The last characters of salt and hash carry fewer than six bits: what has more of them was not
 * made by bcrypt, and would never match.
 */
const bcryptHash = /^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26]$/

/** The range of `htpasswd -C`. One more doubles the time, and at 17 a login takes seconds already. */
const costs = { min: 4, max: 17 }

/** Of hashes that people bring along from elsewhere. */
const otherKinds: readonly (readonly [prefix: string, kind: string])[] = [
  ['$apr1$', 'MD5 (apr1)'],
  ['$1$', 'MD5'],
  ['{SHA}', 'SHA-1'],
  ['$5$', 'SHA-256 (crypt)'],
  ['$6$', 'SHA-512 (crypt)'],
  ['$argon2', 'Argon2'],
]

/**
 * The hash of each user, all of them as `$2b$`: the letters differ in what once was wrong with passwords that are
 * longer than those taken here.
 * @throws HtpasswdInvalid
 */
export function parseHtpasswd(text: string): ReadonlyMap<string, string> {
  const hashes = new Map<string, string>()
  const lines = text.replace(/^\uFEFF/, '').split('\n')
  for (const [index, line] of lines.entries()) {
    const entry = line.trimEnd()
    if (entry === '' || entry.startsWith('#')) continue
    const refuse = (problem: string) => new HtpasswdInvalid(`line ${index + 1}: ${problem}`)
    const colon = entry.indexOf(':')
    if (colon < 1) throw refuse('expected user:hash, as `htpasswd -B` writes it')
    const user = entry.slice(0, colon)
    if (/\p{Cc}/u.test(user)) throw refuse('the name of the user has control characters')
    if (hashes.has(user)) throw refuse(`user ${JSON.stringify(user)} is there twice`)
    hashes.set(user, parseHash(entry.slice(colon + 1), user, refuse))
  }
  return hashes
}

function parseHash(hash: string, user: string, refuse: (problem: string) => HtpasswdInvalid): string {
  const cost = Number(bcryptHash.exec(hash)?.[1])
  if (cost >= costs.min && cost <= costs.max) return hash.replace(/^\$2[ay]/, '$2b')
  const whose = `the hash of user ${JSON.stringify(user)}`
  if (!Number.isNaN(cost)) {
    throw refuse(`${whose} has the bcrypt cost ${cost}; expected ${costs.min} to ${costs.max}`)
  }
  const kind = otherKinds.find(([prefix]) => hash.startsWith(prefix))?.[1]
  throw refuse(
    `${whose} is not bcrypt${kind ? ` but ${kind}` : ''}; make it anew with \`htpasswd -B\` (htpasswd -B FILE USER)`,
  )
}
