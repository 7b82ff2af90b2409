/** A registry from which anybody may pull, and to which alice alone may push. */
import { htpasswdOf } from '../support/htpasswd.ts'
import { startStowage, type Stowage } from '../support/stowage.ts'
import type { ClientFolder } from './client-folder.ts'

export const user = 'alice'
export const password = 'of-alice:with-a-colon'

/** @param anonymous what is open without a login */
export async function startRegistryWithUsers(
  folder: ClientFolder,
  anonymous: 'none' | 'pull' = 'pull',
): Promise<Stowage> {
  const file = await folder.file(`htpasswd-${anonymous}`, htpasswdOf({ [user]: password }))
  return startStowage(['--storage', 'memory', '--htpasswd', file, '--anonymous', anonymous])
}
