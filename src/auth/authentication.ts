/** Who asks? */
import type { Clock } from '../clock.ts'
import type { Log } from '../telemetry/log.ts'
import { anonymous, type Identity } from './access.ts'
import { parseAuthorization, unauthorized } from './challenge.ts'
import {
  boundComparisons,
  maxPasswordBytes,
  passwordVerifier,
  type Compare,
  type Verify,
} from './passwords.ts'
import { openUserFiles, type UserFile } from './user-files.ts'

export interface Authentication {
  /**
   * @param authorization the header as it was sent
   * @throws OciError UNAUTHORIZED where the credentials are wrong, whatever may be done without any; UNAVAILABLE
   */
  identify(authorization: string | undefined): Promise<Identity>
  close(): void
}

export interface AuthenticationOptions {
  /** At least one. */
  readonly files: readonly UserFile[]
  readonly clock: Clock
  readonly log: Log
  /** Default: bcrypt's. */
  readonly compare?: Compare
}

/** @throws UserFileRefused */
export async function openAuthentication(options: AuthenticationOptions): Promise<Authentication> {
  const { files, clock, log } = options
  const compare = boundComparisons(options.compare)
  let verify: Verify = async () => undefined
  const watched = await openUserFiles({
    files,
    clock,
    log,
    onUsers(users) {
      verify = passwordVerifier(users, { compare, clock })
    },
  })
  return {
    async identify(authorization) {
      const credentials = authorization === undefined ? undefined : parseAuthorization(authorization)
      if (credentials === undefined) return anonymous
      if (Buffer.byteLength(credentials.password) > maxPasswordBytes) {
        throw unauthorized(`wrong password: none has more than ${maxPasswordBytes} bytes`)
      }
      const user = await verify(credentials)
      if (user === undefined) throw unauthorized('wrong user name or password')
      const { repositories } = user
      return { kind: 'user', name: credentials.user, ...(repositories && { repositories }) }
    },
    close: () => watched.close(),
  }
}
