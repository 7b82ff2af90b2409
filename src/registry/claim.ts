import { z } from 'zod'
import { PreconditionFailed, type Driver } from '../storage/driver.ts'
import type { Log } from '../telemetry/log.ts'
import { decodeJson, encodeJson } from './json.ts'
import { claimKey, referrersCompleteKey, roots } from './layout.ts'
import { defaultSafetyTimes, type SafetyTimes } from './safety.ts'

/** Whose bucket this is, and the times that its servers and collectors agree on. */
export interface Claim {
  readonly owner: string
  readonly times: SafetyTimes
}

const claimSchema = z.object({
  owner: z.string(),
  times: z.object({
    writeLeaseMs: z.number().positive(),
    graceMarginMs: z.number().nonnegative(),
    roundLeaseMs: z.number().positive(),
    removeLeaseMs: z.number().positive(),
  }),
})

export interface ClaimOptions {
  readonly driver: Driver
  readonly log: Log
  /** Who we are. */
  readonly owner: string
}

/**
 * The claim of this bucket. One that is found empty is claimed for `owner`. One that holds another registry's content
 * is served unclaimed, with the default times; collections wait until it is claimed explicitly.
 */
export async function openClaim({ driver, log, owner }: ClaimOptions): Promise<Claim> {
  const claim = (await readClaim(driver)) ?? (await claimIfEmpty(driver, owner))
  if (!claim) {
    log.info(
      { owner },
      'the storage holds the content of another registry and is not claimed: it is served as it is',
    )
    return { owner, times: defaultSafetyTimes }
  }
  if (claim.owner !== owner) {
    log.warn(
      { owner, claimedBy: claim.owner },
      'the storage is claimed by another installation: it alone may collect garbage in it',
    )
  }
  return claim
}

/** @throws StorageUnavailable where a newer version of the protocol holds the bucket */
export async function readClaim(driver: Driver): Promise<Claim | undefined> {
  const bytes = await driver.read(claimKey)
  return bytes && decodeJson(claimKey, bytes, claimSchema)
}

async function claimIfEmpty(driver: Driver, owner: string): Promise<Claim | undefined> {
  // Content of our own, where another server has claimed it meanwhile and is pushed to already.
  for await (const _ of driver.list(roots.distribution)) return readClaim(driver)
  const claim: Claim = { owner, times: defaultSafetyTimes }
  try {
    await driver.write(claimKey, encodeJson({ ...claim }), { ifAbsent: true })
  } catch (error) {
    if (!(error instanceof PreconditionFailed)) throw error
    return readClaim(driver)
  }
  // Whatever comes from now on gets its referrer link as it is pushed.
  await driver.write(referrersCompleteKey, encodeJson({}))
  return claim
}
