import type { RepositoryName } from '../oci/names.ts'

export interface User {
  /** bcrypt */
  readonly hash: string
  /** Where they are named, the user is good for these alone. */
  readonly repositories?: ReadonlySet<RepositoryName>
}

/** Everybody who can log in, by name. */
export type Users = ReadonlyMap<string, User>
