/**
 * The ages and leases of the collection, and the reason of each: their only home. Servers and collectors of one
 * bucket must agree on SafetyTimes, so they stand in the bucket's claim and are read from there.
 */
export interface SafetyTimes {
  /**
   * How long a write of a push may take effect after R1. Signatures of S3 live this long, so the storage itself
   * refuses the write of a server that slept.
   */
  readonly writeLeaseMs: number
  /** What a collector adds to the grace, so that writes admitted at their lease's end are seen: the lease and 5 min. */
  readonly graceMarginMs: number
  /** How long a round of deletes stays open after a collector died in it; each round says it of itself, too. */
  readonly roundLeaseMs: number
  /** How long a delete may take effect; 30 s less than the round, for the storage to carry out what it admitted. */
  readonly removeLeaseMs: number
}

export const defaultSafetyTimes: SafetyTimes = {
  writeLeaseMs: 15 * 60_000,
  graceMarginMs: 20 * 60_000,
  roundLeaseMs: 90_000,
  removeLeaseMs: 60_000,
}

/**
 * How long the write of a tag may take effect. A tag moves, so a write without an answer could land on top of a newer
 * one: it is sent once, and waited out before anyone is answered. That must not take a quarter of an hour.
 */
export const tagLeaseMs = 60_000

/** From admitting a request to its effect: what is assumed of the storage, its nodes' clocks included. */
export const settleMs = 30_000

/** An answer that rests on the records leaves while they are younger than this, by the monotonic clock. */
export const recordsMaxAgeMs = 10_000

/** How often a server that answers nothing reads them all the same, so that pulls find them fresh. */
export const recordsPollMs = 3_000

/** How long one request waits for a round to close before it gets 503; a round that lives closes in seconds. */
export const roundWaitMs = 30_000

/** A round is looked at this often while a request waits for it. */
export const roundPollMs = 500

/** How often one push begins again, or one removal with a newer date, before its client is asked to try again. */
export const maxAttempts = 20
