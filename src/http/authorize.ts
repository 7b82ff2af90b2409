/** Between finding an endpoint and asking its handler: who asks, and may they? */
import type { Context } from 'koa'
import {
  anonymous,
  decide,
  isClosed,
  type Access,
  type Action,
  type Identity,
  type Policy,
} from '../auth/access.ts'
import { unauthorized } from '../auth/challenge.ts'
import { OciError } from '../oci/errors.ts'
import type { RepositoryName } from '../oci/names.ts'

export interface AccessControl {
  readonly policy: Policy
  /** See Authentication in auth/authentication.ts. */
  readonly identify: (authorization: string | undefined) => Promise<Identity>
}

/** Nobody is asked; credentials that clients send all the same are not looked at. */
export function withoutUsers(anonymousMay: Policy['anonymous']): AccessControl {
  return {
    policy: { anonymous: anonymousMay, hasUsers: false },
    identify: () => Promise.resolve(anonymous),
  }
}

/** The access that an endpoint's action is, in the repository that the path names. */
export function accessOf(action: Action, repository: RepositoryName): Access {
  return action === 'login' || action === 'catalog' ? { action } : { action, repository }
}

/** Who sent a request, and what they may do. */
export interface Caller {
  /** For what a handler wants to know beyond its endpoint's own action. */
  may(access: Access): Promise<boolean>
  /** @throws OciError UNAUTHORIZED | DENIED */
  authorize(access: Access): Promise<void>
}

/**
 * Before anything of the request is looked at, its path included: where nothing is open to anybody, nothing is told.
 * The name of a user goes to `ctx.state.user`, once it is verified (a wrong one may be a password).
 * @throws OciError UNAUTHORIZED | UNAVAILABLE
 */
export async function identifyCaller(ctx: Context, { policy, identify }: AccessControl): Promise<Caller> {
  const identity = await identify(authorizationOf(ctx, policy))
  if (identity.kind === 'user') ctx.state['user'] = identity.name
  else if (isClosed(policy)) throw unauthorized()
  return {
    may: (access) => Promise.resolve(decide(policy, identity, access) === 'allow'),
    async authorize(access) {
      const decision = decide(policy, identity, access)
      if (decision === 'allow') return
      throw decision === 'authenticate' ? unauthorized() : denied(identity, access)
    },
  }
}

/** Node keeps the first of several: which one a proxy in front of us looked at is not known. */
function authorizationOf({ req }: Context, { hasUsers }: Policy): string | undefined {
  const { authorization } = req.headers
  if (authorization === undefined || !hasUsers) return undefined
  if (req.headersDistinct['authorization']?.length === 1) return authorization
  throw unauthorized('more than one Authorization header')
}

function denied(identity: Identity, access: Access): OciError {
  const who = identity.kind === 'user' ? `user ${JSON.stringify(identity.name)} may not` : 'nobody may'
  const what = 'repository' in access ? `${access.action} ${access.repository}` : 'list all repositories'
  return new OciError('DENIED', { message: `${who} ${what}`, detail: access })
}
