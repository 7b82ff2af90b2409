/** What `check-storage` tells of its findings: the cases as they go, then what they mean. */
import { appendCases } from '../storage/contract/appends.ts'
import type { ContractCase } from '../storage/contract/case.ts'
import { compositionCases } from '../storage/contract/compositions.ts'
import { concurrencyCases } from '../storage/contract/concurrency.ts'
import { keyCases } from '../storage/contract/keys.ts'
import { leaseCases } from '../storage/contract/leases.ts'
import { listingCases } from '../storage/contract/listings.ts'
import { optionalCases } from '../storage/contract/optional-verbs.ts'
import { removalCases } from '../storage/contract/removals.ts'
import { streamCases } from '../storage/contract/streams.ts'
import { uploadCases } from '../storage/contract/uploads.ts'
import { wholeObjectCases } from '../storage/contract/whole-objects.ts'

export interface CaseResult {
  readonly contractCase: ContractCase
  /** Why it failed. */
  readonly problem?: string
}

export interface Findings {
  readonly storage: string
  readonly results: readonly CaseResult[]
  readonly advice: readonly string[]
  /** A signal came before all cases had run. */
  readonly isStopped: boolean
}

export interface Report {
  result(result: CaseResult): void
  end(findings: Findings): void
}

const reading = 'Reads and writes do not work as the registry needs them: do not serve from this storage.'
const pushing = 'Pushes of large layers fail or may be damaged: do not serve from this storage.'

const meanings: readonly (readonly [cases: readonly ContractCase[], meaning: string])[] = [
  [wholeObjectCases, reading],
  [keyCases, reading],
  [streamCases, reading],
  [
    concurrencyCases,
    'Processes that use this storage at once do not see the same (create-if-absent is the usual reason): run one ' +
      'server on it, and no collection.',
  ],
  [
    listingCases,
    'Listings are not true: tags and repositories may be missing from answers, and a collection could take what is ' +
      'in use. Run no collection.',
  ],
  [removalCases, 'Removals are not done, or do harm: deleting images does not work, and no collection can.'],
  [
    leaseCases,
    'What a slow process sent long ago may still take effect: a collection could take what is in use. Run no collection.',
  ],
  [appendCases, pushing],
  [compositionCases, pushing],
  [uploadCases, pushing],
  [optionalCases, 'Presigned URLs or temporary files do not work as they should: leave --s3-redirect off.'],
]

/** What a case says that did all it had to, but could not take its folder away again. */
const leftover = /^still listed after everything was removed/

/** Each once, the worst first. */
export function meaningsOf(results: readonly CaseResult[]): string[] {
  const failed = new Set<ContractCase>()
  for (const { contractCase, problem = '' } of results) {
    if (leftover.test(problem)) listingCases.forEach((listing) => failed.add(listing))
    else if (problem !== '') failed.add(contractCase)
  }
  const found = meanings.filter(([cases]) => cases.some((contractCase) => failed.has(contractCase)))
  return [...new Set(found.map(([, meaning]) => meaning))]
}

export function reportAsText(print: (text: string) => void): Report {
  const indent = (text: string) => text.replaceAll('\n', '\n        ')
  return {
    result: ({ contractCase: { name }, problem }) =>
      print(problem === undefined ? `ok      ${name}` : `FAILED  ${name}\n        ${indent(problem)}`),
    end(findings) {
      const { results, storage, advice, isStopped } = findings
      const failed = results.filter(({ problem }) => problem !== undefined).length
      const sections = [
        `\n${storage}: ${results.length - failed} of ${results.length} hold${isStopped ? '; stopped before the end' : ''}`,
        ...meaningsOf(results),
        ...advice.map((sentence) => `Advice: ${sentence}`),
      ]
      print(sections.join('\n'))
    },
  }
}

/** One object: `{ storage, ok, stopped, cases: [{ name, ok, problem? }], meanings, advice }`. */
export function reportAsJson(print: (text: string) => void): Report {
  return {
    result: () => undefined,
    end({ storage, results, advice, isStopped }) {
      const cases = results.map(({ contractCase: { name }, problem }) => ({
        name,
        ok: problem === undefined,
        ...(problem !== undefined && { problem }),
      }))
      const ok = !isStopped && cases.every((found) => found.ok)
      print(
        JSON.stringify(
          { storage, ok, stopped: isStopped, cases, meanings: meaningsOf(results), advice },
          null,
          2,
        ),
      )
    },
  }
}
