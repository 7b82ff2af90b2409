/** A reporter of jest that leaves the run's counts, as JSON, in the file that STOWAGE_TEST_COUNTS names. */
import { writeFileSync } from 'node:fs'

export interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

/** What is read here of jest's AggregatedResult. */
interface Result {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numPendingTests: number
  readonly numTodoTests: number
  readonly numRuntimeErrorTestSuites: number
}

export default class CountReporter {
  onRunComplete(_contexts: unknown, result: Result): void {
    const path = process.env['STOWAGE_TEST_COUNTS']
    if (path === undefined) return
    const counts: Counts = {
      passed: result.numPassedTests,
      // A file that could not even be loaded has no tests to count, and has failed.
      failed: result.numFailedTests + result.numRuntimeErrorTestSuites,
      skipped: result.numPendingTests + result.numTodoTests,
    }
    writeFileSync(path, JSON.stringify(counts))
  }
}
