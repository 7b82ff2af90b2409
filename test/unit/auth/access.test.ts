import { describe, expect, test } from '@jest/globals'
import {
  anonymous,
  decide,
  type Access,
  type Decision,
  type Identity,
  type Policy,
} from '../../../src/auth/access.ts'
import { parseRepositoryName } from '../../../src/oci/names.ts'

const repository = parseRepositoryName('team/app')
const others = ['team', 'team/app/more', 'team/ap', 'other'].map(parseRepositoryName)

const identities = {
  anonymous,
  user: { kind: 'user', name: 'alice' },
  limited: { kind: 'user', name: 'canary', repositories: new Set([repository]) },
  'limited to none': { kind: 'user', name: 'nobody', repositories: new Set() },
} as const satisfies Record<string, Identity>

const columns = ['login', 'catalog', 'pull', 'push', 'delete', 'pull other', 'push other', 'delete other']

function accessOf(column: string): readonly Access[] {
  const [action, other] = column.split(' ') as [Access['action'], string?]
  if (action === 'login' || action === 'catalog') return [{ action }]
  return (other ? others : [repository]).map((one) => ({ action, repository: one }))
}

/** `+` is allow, `?` authenticate, `-` deny; in the order of the columns. */
const table = `
  none with users     anonymous        ? ? ? ? ? ? ? ?
  none with users     user             + + + + + + + +
  none with users     limited          + - + + + - - -
  none with users     limited to none  + - - - - - - -
  pull with users     anonymous        ? + + ? ? + ? ?
  pull with users     user             + + + + + + + +
  pull with users     limited          + + + + + + - -
  pull with users     limited to none  + + + - - + - -
  full with users     anonymous        + + + + + + + +
  full with users     user             + + + + + + + +
  full with users     limited          + + + + + + + +
  full with users     limited to none  + + + + + + + +
  none without users  anonymous        - - - - - - - -
  pull without users  anonymous        + + + - - + - -
  full without users  anonymous        + + + + + + + +
`
const decisions: Readonly<Record<string, Decision>> = { '+': 'allow', '?': 'authenticate', '-': 'deny' }

const rows = table
  .trim()
  .split('\n')
  .map((line) => line.trim().split(/ {2,}/) as [string, keyof typeof identities, string])

describe('what is decided', () => {
  test.each(rows)('%s: %s', (policyText, identity, signs) => {
    const policy: Policy = {
      anonymous: policyText.slice(0, 4) as Policy['anonymous'],
      hasUsers: policyText.endsWith('with users'),
    }
    const expected = signs.split(' ').map((sign) => decisions[sign])
    expect(expected).toHaveLength(columns.length)
    for (const [index, column] of columns.entries()) {
      for (const access of accessOf(column)) {
        expect([column, access, decide(policy, identities[identity], access)]).toEqual([
          column,
          access,
          expected[index],
        ])
      }
    }
  })

  test('the table has every combination that can be', () => {
    const combinations = rows.map(([policy, identity]) => `${policy}, ${identity}`)
    expect(new Set(combinations).size).toBe(3 * Object.keys(identities).length + 3)
  })

  test('nobody may less with credentials than without', () => {
    for (const allowed of ['none', 'pull', 'full'] as const) {
      const policy: Policy = { anonymous: allowed, hasUsers: true }
      for (const access of columns.flatMap(accessOf)) {
        if (decide(policy, anonymous, access) !== 'allow') continue
        for (const identity of Object.values(identities)) {
          expect(decide(policy, identity, access)).toBe('allow')
        }
      }
    }
  })
})
