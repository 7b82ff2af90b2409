/**
 * The contract of driver.ts as assertions, without a test framework: the tests of every driver and the command
 * `check-storage` run the same cases. A failing case says in its message what the backend does not honour.
 */
import { randomUUID } from 'node:crypto'
import { collectListed, collectNames, type ContractCase, type ContractContext } from './contract/case.ts'
import { appendCases } from './contract/appends.ts'
import { compositionCases } from './contract/compositions.ts'
import { concurrencyCases } from './contract/concurrency.ts'
import { keyCases } from './contract/keys.ts'
import { leaseCases } from './contract/leases.ts'
import { listingCases } from './contract/listings.ts'
import { optionalCases } from './contract/optional-verbs.ts'
import { removalCases } from './contract/removals.ts'
import { streamCases } from './contract/streams.ts'
import { uploadCases } from './contract/uploads.ts'
import { wholeObjectCases } from './contract/whole-objects.ts'

export type { ContractCase, ContractContext } from './contract/case.ts'

/** Independent of each other; cheapest first. */
export const contractCases: readonly ContractCase[] = [
  ...wholeObjectCases,
  ...keyCases,
  ...streamCases,
  ...concurrencyCases,
  ...listingCases,
  ...removalCases,
  ...leaseCases,
  ...appendCases,
  ...compositionCases,
  ...uploadCases,
  ...optionalCases,
]

/**
 * Runs one case in a folder of its own below `folder` (ends with "/"), removes what it wrote, and fails where
 * something is left that cannot be removed or still shows.
 * @throws AssertionError whose message says what does not hold; or what the driver itself threw
 */
export async function runContractCase(
  contractCase: ContractCase,
  storage: Omit<ContractContext, 'prefix'>,
  folder: string,
): Promise<void> {
  const context = { ...storage, prefix: `${folder}${randomUUID()}/` }
  try {
    await contractCase.run(context)
  } catch (error) {
    await removeAll(context).catch(() => {
      // What failed first is what has to be told.
    })
    throw error
  }
  await removeAll(context)
  const left = [
    ...(await collectListed(context.driver, context.prefix)).map(({ key }) => key),
    ...(await collectListed(context.second, context.prefix)).map(({ key }) => key),
    ...(await collectNames(context.second, context.prefix)),
  ]
  if (left.length > 0)
    throw new Error(`still listed after everything was removed: ${left.slice(0, 5).join(', ')}`)
}

async function removeAll({ driver, prefix }: ContractContext): Promise<void> {
  const listed = await collectListed(driver, prefix)
  await driver.remove(listed.map(({ key }) => key))
}
