/** Who may do what: pure. Whatever else will tell who somebody is, or what they may do, ends in these types. */
import type { RepositoryName } from '../oci/names.ts'

/** What a request is about to do. */
export type Access =
  /** end-1, which clients ask to find out whether they have to log in, and whether they are. */
  | { readonly action: 'login' }
  /** Reading whatever there is: the names of all repositories, or a blob wherever it may be. */
  | { readonly action: 'catalog' }
  | { readonly action: 'pull' | 'push' | 'delete'; readonly repository: RepositoryName }

export type Action = Access['action']

export type Identity =
  /** No credentials came along; wrong ones are nobody's. */
  | { readonly kind: 'anonymous' }
  /** Good for these repositories alone, where they are named. */
  | { readonly kind: 'user'; readonly name: string; readonly repositories?: ReadonlySet<RepositoryName> }

export const anonymous: Identity = { kind: 'anonymous' }

export interface Policy {
  /** What anybody may do. */
  readonly anonymous: 'none' | 'pull' | 'full'
  /** Whether there is a way to log in. Where there is none, asking for credentials would lead nowhere. */
  readonly hasUsers: boolean
}

/** `authenticate` is a 401: credentials may help. `deny` is a 403: these are not good for it. */
export type Decision = 'allow' | 'authenticate' | 'deny'

/** With credentials one may never less than without. */
export function decide(policy: Policy, identity: Identity, access: Access): Decision {
  if (mayAnybody(policy, access) || mayUser(identity, access)) return 'allow'
  return identity.kind === 'anonymous' && policy.hasUsers ? 'authenticate' : 'deny'
}

/** Whether a request without credentials need not be looked at to be refused. */
export function isClosed({ anonymous: allowed }: Policy): boolean {
  return allowed === 'none'
}

function mayAnybody({ anonymous: allowed, hasUsers }: Policy, { action }: Access): boolean {
  if (allowed !== 'pull') return allowed === 'full'
  // A client that is let in here without credentials may never send them: docs/adr/0004-basic-authentication.md.
  if (action === 'login') return !hasUsers
  return action === 'pull' || action === 'catalog'
}

function mayUser(identity: Identity, access: Access): boolean {
  if (identity.kind === 'anonymous') return false
  if (identity.repositories === undefined || access.action === 'login') return true
  return access.action !== 'catalog' && identity.repositories.has(access.repository)
}
