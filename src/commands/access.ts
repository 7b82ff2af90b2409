/** The settings of who may do what, and the access control that they mean. */
import { z } from 'zod'
import type { Policy } from '../auth/access.ts'
import type { UserFile } from '../auth/user-files.ts'
import { systemClock } from '../clock.ts'
import type { AccessControl } from '../http/authorize.ts'
import { tryParseRepositoryName, type RepositoryName } from '../oci/names.ts'
import type { Conflict, Settings, ValuesOf } from '../settings.ts'
import { choice, text, type HostAndPort, type Kind } from '../settings-kinds.ts'
import type { Log } from '../telemetry/log.ts'
import { CommandFailed } from './command.ts'
import { isLoopback } from './loopback.ts'

const group = 'Access:'

export const accessSettings = {
  htpasswd: {
    group,
    kind: text('<file>', /^[^\0]+$/, 'an htpasswd file'),
    help: 'users and their passwords, made with `htpasswd -B` (bcrypt); read again when it changes',
  },
  htpasswdLimited: {
    group,
    kind: repositoryFiles(),
    help: 'users good for one repository alone, in a file of their own; several: A=FILE,B=FILE',
  },
  anonymous: {
    group,
    kind: choice('<what>', ['none', 'pull', 'full']),
    help: 'what anybody may do who does not log in: none, pull, or full (push and delete, too); default none with users, without them full on a loopback address, and elsewhere it has to be said',
  },
} as const satisfies Settings

/** The users of the files on the right are good for the repositories on the left. */
function repositoryFiles(): Kind<ReadonlyMap<string, ReadonlySet<RepositoryName>>> {
  return {
    placeholder: '<repository=file>',
    expected:
      'REPOSITORY=FILE, such as team/app=/etc/stowage/team.htpasswd, several of them with commas between',
    schema: z.string().transform((value, context) => {
      const files = new Map<string, Set<RepositoryName>>()
      for (const part of value.split(',')) {
        const [, name = '', path = ''] = /^([^=]*)=([^\0]+)$/.exec(part) ?? []
        const repository = tryParseRepositoryName(name)
        if (repository === undefined) {
          context.addIssue({ code: 'custom' })
          return z.NEVER
        }
        files.set(path, (files.get(path) ?? new Set()).add(repository))
      }
      return files
    }),
  }
}

export type AccessValues = ValuesOf<typeof accessSettings>

/** Nothing is open to others because nobody thought of it. */
export function* checkAccessSettings(
  values: Partial<AccessValues> & { readonly listen?: HostAndPort | undefined },
  isGiven: (key: keyof AccessValues) => boolean,
): Iterable<Conflict<typeof accessSettings>> {
  const hasUsers = isGiven('htpasswd') || isGiven('htpasswdLimited')
  if (!hasUsers && values.anonymous === 'none') {
    yield { key: 'anonymous', problem: 'nobody could do anything: there are no users; give --htpasswd, too' }
  }
  if (!hasUsers && !isGiven('anonymous') && values.listen && !isLoopback(values.listen.host)) {
    yield {
      key: 'anonymous',
      problem:
        'missing; others can reach this address: give --htpasswd FILE for people to log in, or say what anybody may do: --anonymous pull, or --anonymous full',
    }
  }
}

/** What anybody may do where it was not said; checkAccessSettings has seen to it that this is no surprise. */
export function anonymousAccess({ anonymous, htpasswd, htpasswdLimited }: AccessValues): Policy['anonymous'] {
  return anonymous ?? (htpasswd === undefined && htpasswdLimited === undefined ? 'full' : 'none')
}

/**
 * Reads the users, and again when they change, until it is closed.
 * @throws CommandFailed
 */
export async function openAccessControl(
  values: AccessValues,
  log: Log,
): Promise<AccessControl & { close(): void }> {
  const allowed = anonymousAccess(values)
  const files: UserFile[] = [
    ...(values.htpasswd === undefined ? [] : [{ path: values.htpasswd }]),
    ...[...(values.htpasswdLimited ?? [])].map(([path, repositories]) => ({ path, repositories })),
  ]
  if (files.length === 0) {
    const { withoutUsers } = await import('../http/authorize.ts')
    return { ...withoutUsers(allowed), close: () => undefined }
  }
  const { openAuthentication } = await import('../auth/authentication.ts')
  const { identify, close } = await openAuthentication({ files, clock: systemClock, log }).catch(
    (error: unknown) => {
      if (!(error instanceof Error) || error.name !== 'UserFileRefused') throw error
      throw new CommandFailed(`users cannot be read from ${error.message}`, { cause: error })
    },
  )
  return { policy: { anonymous: allowed, hasUsers: true }, identify, close }
}
