import { isNativeError } from 'node:util/types'
import type { Clock } from '../clock.ts'
import type { Log } from './log.ts'

/**
 * Whether a server should get requests. It begins not ready; from the first check of the storage that succeeds it is,
 * until checks have failed `failures` times in a row and for `failingMs`; the next success makes it ready again. One
 * slow answer changes nothing: all replicas have the same storage, and taking all of them away helps nobody.
 */
export interface Health {
  readiness(): Readiness
  /** Checks from now on, at once and then every `intervalMs`; `check` throws where the storage cannot be reached. */
  watch(check: (signal: AbortSignal) => Promise<void>): void
  /** Not ready from now on, and for good. */
  drain(): void
  close(): void
}

export interface Readiness {
  readonly isReady: boolean
  /** For a person. */
  readonly reason: string
  /** Checks that failed since the last one that succeeded. */
  readonly failedChecks: number
  /** Why the last one of them did. */
  readonly lastFailure?: string
  /** How long ago the last success was. */
  readonly secondsSinceSuccess?: number
}

export interface HealthOptions {
  readonly clock: Clock
  readonly log: Log
  /** From the end of one check to the next; default 5,000. */
  readonly intervalMs?: number
  /** How long a check may take; default 5,000. */
  readonly deadlineMs?: number
  /** Default 3. */
  readonly failures?: number
  /** Since the first of these failures; default 20,000. */
  readonly failingMs?: number
}

interface Observed {
  readonly isReady: boolean
  readonly succeededAt?: number
  /** The failures since then. */
  readonly failing?: { readonly count: number; readonly since: number; readonly last: string }
}

export function openHealth(options: HealthOptions): Health {
  const { clock, log, intervalMs = 5_000, deadlineMs = 5_000, failures = 3, failingMs = 20_000 } = options
  const closed = new AbortController()
  let observed: Observed = { isReady: false }
  let isDraining = false

  const record = (failure: string | undefined) => {
    const before = observed
    observed = observe(before, failure, clock.monotonic(), { failures, failingMs })
    if (failure !== undefined) log.debug({ failure }, 'a check of the storage has failed')
    if (observed.isReady && !before.isReady) log.info({}, 'ready')
    if (!observed.isReady && before.isReady) log.warn({ failure }, 'not ready: the storage does not answer')
  }

  async function run(check: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const checkOnce = checker(check, clock, deadlineMs)
    while (!closed.signal.aborted) {
      record(await checkOnce())
      await clock.sleep(intervalMs, closed.signal).catch(() => undefined)
    }
  }

  return {
    readiness: () => describe(observed, isDraining, clock.monotonic()),
    watch: (check) => void run(check),
    drain() {
      isDraining = true
    },
    close: () => closed.abort(),
  }
}

/** What is known after one more check; `failure` is undefined where it succeeded. */
function observe(
  { isReady, succeededAt, failing }: Observed,
  failure: string | undefined,
  at: number,
  { failures, failingMs }: { readonly failures: number; readonly failingMs: number },
): Observed {
  if (failure === undefined) return { isReady: true, succeededAt: at }
  const { count, since } = failing ?? { count: 0, since: at }
  const now = { count: count + 1, since, last: failure }
  const isLost = now.count >= failures && at - now.since >= failingMs
  return { isReady: isReady && !isLost, failing: now, ...(succeededAt !== undefined && { succeededAt }) }
}

function describe({ isReady, succeededAt, failing }: Observed, isDraining: boolean, at: number): Readiness {
  return {
    isReady: isReady && !isDraining,
    reason: reasonOf(isReady, isDraining, succeededAt !== undefined),
    failedChecks: failing?.count ?? 0,
    ...(failing && { lastFailure: failing.last }),
    ...(succeededAt !== undefined && { secondsSinceSuccess: Math.round((at - succeededAt) / 1000) }),
  }
}

function reasonOf(isReady: boolean, isDraining: boolean, hasSucceeded: boolean): string {
  if (isDraining) return 'stopping: running requests may end'
  if (isReady) return 'the storage answers'
  return hasSucceeded ? 'the storage does not answer' : 'starting: the storage has not answered yet'
}

/**
 * One check at a time: where a storage hangs so that not even the abort ends it, checks do not pile up, and the one that
 * hangs is a failure again each time.
 * @returns what failed, for a person
 */
function checker(check: (signal: AbortSignal) => Promise<void>, clock: Clock, deadlineMs: number) {
  let running: Promise<string | undefined> | undefined
  return async (): Promise<string | undefined> => {
    const deadline = new AbortController()
    running ??= check(deadline.signal)
      .then(
        () => undefined,
        (error: unknown) => failureOf(error),
      )
      .finally(() => (running = undefined))
    const timer = new AbortController()
    const late = clock.sleep(deadlineMs, timer.signal).then(() => `no answer within ${deadlineMs} ms`)
    late.catch(() => undefined)
    try {
      return await Promise.race([running, late])
    } finally {
      timer.abort()
      deadline.abort()
    }
  }
}

const maxFailureCharacters = 300

function failureOf(error: unknown): string {
  const message = isNativeError(error) ? error.message || error.name : String(error)
  return (message.split('\n', 1)[0] ?? '').slice(0, maxFailureCharacters)
}
