import { expect, test } from '@jest/globals'
import { StorageUnavailable } from '../../../src/storage/driver.ts'
import { interruptDriver } from '../../support/driver-interrupt.ts'
import {
  descriptor,
  digestOfText,
  image,
  keys,
  keysOf,
  openProtocolRegistry,
  repository,
  settled,
} from '../../support/protocol-registry.ts'
import { memoryDriver } from '../../../src/storage/memory.ts'
import { manualClock } from '../../support/manual-clock.ts'

const subject = image('config', ['layer'])
const referrer = image('config', ['layer'], { subject: descriptor(subject) })

/** A bucket as another registry leaves it: manifests with a subject, and no link of ours. */
async function foreignBucket() {
  const clock = manualClock()
  const storage = memoryDriver({ clock })
  await storage.write(keys.data(referrer.digest), referrer.bytes)
  await storage.write(keys.revision(referrer.digest), Buffer.from(referrer.digest))
  return { clock, storage }
}

const marker = `stowage/repositories/${repository}/_referrers/complete`

test('referrers that another registry stored get their links at the first listing', async () => {
  using at = await openProtocolRegistry(await foreignBucket())
  expect(await at.registry.referrers.list(repository, subject.digest)).toMatchObject([
    { digest: referrer.digest, size: referrer.bytes.length },
  ])
  expect(await keysOf(at.storage, 'stowage/repositories/')).toEqual([
    marker,
    keys.referrer(subject.digest, referrer.digest),
  ])
  at.operations()
  await at.registry.referrers.list(repository, subject.digest)
  expect(
    at.operations().some((operation) => operation.includes('revisions/') && operation.startsWith('list')),
  ).toBe(false)
})

test('a manifest that the storage could not give at that moment is not left out for good', async () => {
  using at = await openProtocolRegistry({
    ...(await foreignBucket()),
    wrap: (driver) =>
      interruptDriver(driver, {
        at: 1,
        when: 'before',
        matches: ({ verb, key }) => verb !== 'stat' && key === keys.data(referrer.digest),
        interrupt() {
          throw new StorageUnavailable('slow down')
        },
      }),
  })
  await expect(at.registry.referrers.list(repository, subject.digest)).rejects.toThrow('slow down')
  expect(await keysOf(at.storage, marker)).toEqual([])
  expect(await at.registry.referrers.list(repository, subject.digest)).toHaveLength(1)
})

test('a manifest that is damaged is no referrer, and does not keep the others from their links', async () => {
  const bucket = await foreignBucket()
  const damaged = digestOfText('what it once was')
  await bucket.storage.write(keys.data(damaged), Buffer.from('something else'))
  await bucket.storage.write(keys.revision(damaged), Buffer.from(damaged))
  using at = await openProtocolRegistry(bucket)
  expect(await at.registry.referrers.list(repository, subject.digest)).toHaveLength(1)
})

test('a link that is made at the listing is made under the protocol: what is condemned is asked back', async () => {
  using at = await openProtocolRegistry(await foreignBucket())
  await at.collector.done(1, [keys.referrer(subject.digest, referrer.digest)])
  at.clock.advance(3_000)
  await settled()
  await at.registry.referrers.list(repository, subject.digest)
  const [names] = await at.collector.rescues(1)
  expect(names).toContain(keys.referrer(subject.digest, referrer.digest))
})
