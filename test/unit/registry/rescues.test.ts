/** docs/GARBAGE-COLLECTION.md, R1 and R2: what a run announced is asked back before anyone looks whether it is there. */
import { describe, expect, test } from '@jest/globals'
import { parseRepositoryName, parseTag } from '../../../src/oci/names.ts'
import { interruptDriver, pause } from '../../support/driver-interrupt.ts'
import {
  descriptor,
  digestOfText,
  image,
  imageIndex,
  keys,
  keysOf,
  openProtocolRegistry,
  pushBlob,
  putManifest,
  repository,
  settled,
  shortKey as short,
  type ProtocolRegistry,
  type ProtocolRegistryOptions,
} from '../../support/protocol-registry.ts'

const config = digestOfText('config')
const layer = digestOfText('layer')
const foreign = digestOfText('a layer that lives elsewhere')
const subject = image('config', ['layer'], { annotations: { is: 'subject' } })
const child = image('config', ['layer'], { annotations: { is: 'child' } })
const foreignLayer = {
  mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar',
  digest: foreign,
  size: 28,
}
const app = image('config', ['layer'], { subject: descriptor(subject) })

async function openWithImage(options: ProtocolRegistryOptions = {}): Promise<ProtocolRegistry> {
  const at = await openProtocolRegistry(options)
  for (const blob of ['config', 'layer']) await pushBlob(at, blob)
  await putManifest(at, child)
  at.operations()
  return at
}

const blobNames = [keys.layer(config), keys.data(config), keys.layer(layer), keys.data(layer)]
const appNames = [
  keys.revision(app.digest),
  keys.data(app.digest),
  keys.referrer(subject.digest, app.digest),
  keys.revision(subject.digest),
  keys.data(subject.digest),
  keys.tag('v1'),
  ...blobNames,
]

describe('a manifest of which something is condemned', () => {
  const condemnable = {
    'its layer link': keys.layer(layer),
    'the data of its layer': keys.data(layer),
    'the link of its config': keys.layer(config),
    'the data of its config': keys.data(config),
    'its own link': keys.revision(app.digest),
    'its own data': keys.data(app.digest),
    'its tag': keys.tag('v1'),
    'its referrer link': keys.referrer(subject.digest, app.digest),
    'the link of its subject': keys.revision(subject.digest),
    'the data of its subject': keys.data(subject.digest),
  }
  test.each(Object.entries(condemnable))(
    'asks all its names back where %s is condemned, before it looks at storage',
    async (_what, condemned) => {
      using at = await openWithImage()
      await at.collector.done(1, [condemned])
      await putManifest(at, app, 'v1')
      expect(await at.collector.rescues(1)).toEqual([appNames.toSorted()])
      const operations = at.operations()
      const readRecords = operations.lastIndexOf('stat gc/runs/0000000002/owner', operations.length - 2)
      const firstCheck = operations.findIndex((operation) => /^stat (_layers|blobs)/.test(operation))
      expect(operations.indexOf('write gc/rescues/0000000001/ID')).toBeLessThan(readRecords)
      expect(readRecords).toBeLessThan(firstCheck)
      expect(operations.at(-1)).toBe('stat gc/runs/0000000002/owner')
      expect(await at.registry.tags.resolve(repository, parseTag('v1'))).toBe(app.digest)
    },
  )

  test('asks back what the children of an index need, as far down as they are present', async () => {
    using at = await openWithImage()
    const absent = image('an absent config', [])
    const inner = imageIndex([descriptor(child), descriptor(absent)])
    await putManifest(at, inner)
    const outer = imageIndex([descriptor(inner, 'application/vnd.oci.image.index.v1+json')])
    await at.collector.done(1, [keys.layer(layer)])
    await putManifest(at, outer, 'v1')
    const manifests = [outer, inner, child, absent].flatMap(({ digest }) => [
      keys.revision(digest),
      keys.data(digest),
    ])
    expect(await at.collector.rescues(1)).toEqual([[...manifests, ...blobNames, keys.tag('v1')].toSorted()])
  })

  test('asks back a layer that may live elsewhere and is here', async () => {
    using at = await openWithImage()
    const windows = image('config', [], { layers: [foreignLayer] })
    await at.collector.done(1, [keys.data(foreign)])
    await putManifest(at, windows)
    const [names] = await at.collector.rescues(1)
    expect(names).toContain(keys.layer(foreign))
    expect(names).toContain(keys.data(foreign))
  })

  test('names every tag of the push', async () => {
    using at = await openWithImage()
    await at.collector.done(1, [keys.tag('v2')])
    await putManifest(at, app, 'v1', ['v2', 'v3'])
    const [names] = await at.collector.rescues(1)
    expect(names).toEqual([...appNames, keys.tag('v2'), keys.tag('v3')].toSorted())
  })
})

describe('a rescue', () => {
  test('is written once: the same push again finds it, and leaves nothing more', async () => {
    using at = await openWithImage()
    await at.collector.done(1, [keys.layer(layer)])
    await putManifest(at, app, 'v1')
    const stored = await keysOf(at.storage)
    at.operations()
    await putManifest(at, app, 'v1')
    expect(await keysOf(at.storage)).toEqual(stored)
    expect(await at.collector.rescues(1)).toHaveLength(1)
    // That it existed is no reason to leave the rest of R2 out.
    const operations = at.operations()
    const rescued = operations.indexOf('write gc/rescues/0000000001/ID')
    expect(operations[rescued + 1]).toBe('stat gc/runs/0000000002/owner')
  })

  test('is known by its names: another tag of the same manifest is another rescue', async () => {
    using at = await openWithImage()
    await at.collector.done(1, [keys.layer(layer)])
    await putManifest(at, app, 'v1')
    await putManifest(at, app, 'v2')
    const rescues = await at.collector.rescues(1)
    expect(rescues).toHaveLength(2)
    expect(rescues.filter((names) => names.includes(keys.tag('v2')))).toHaveLength(1)
  })

  test('belongs to the generation that condemned, and a new generation needs a new one', async () => {
    using at = await openWithImage()
    await at.collector.done(1, [keys.layer(layer)])
    await putManifest(at, app, 'v1')
    await at.collector.done(2, [keys.layer(layer)])
    await putManifest(at, app, 'v1')
    expect(await at.collector.rescues(1)).toHaveLength(1)
    expect(await at.collector.rescues(2)).toHaveLength(1)
  })

  test('of a blob names its link and its data, also where the bytes are stored anew', async () => {
    using at = await openWithImage()
    await at.collector.done(1, [keys.data(layer)])
    await at.storage.remove([keys.data(layer), keys.layer(layer)])
    await pushBlob(at, 'layer')
    expect(await at.collector.rescues(1)).toEqual([[keys.data(layer), keys.layer(layer)].toSorted()])
    expect((await at.registry.blobs.stat(repository, layer))?.size).toBe(5)
  })

  test('of a mount names the link that is made, not the one that it comes from', async () => {
    using at = await openWithImage()
    const target = parseRepositoryName('library/target')
    await at.collector.done(1, [keys.data(layer)])
    expect(await at.registry.blobs.mount(target, layer, repository)).toBe(true)
    const targetLink = keys.layer(layer).replace(repository, target)
    expect(await at.collector.rescues(1)).toEqual([[keys.data(layer), targetLink].toSorted()])
  })

  test('is no business of a push that needs nothing condemned', async () => {
    using at = await openWithImage()
    await at.collector.done(1, [keys.data(digestOfText('somebody else'))])
    await putManifest(at, app, 'v1')
    expect(await keysOf(at.storage, 'stowage/gc/rescues/')).toEqual([])
  })
})

describe('a run that ends while a push is under way', () => {
  const isDataWrite = ({ verb, key }: { verb: string; key: string }) =>
    verb === 'write' && key === keys.data(app.digest)

  test('after R1, sends it back to R1, where it asks back what that run condemned', async () => {
    using paused = pause()
    using at = await openWithImage({
      wrap: (driver) =>
        interruptDriver(driver, { at: 1, when: 'before', matches: isDataWrite, interrupt: paused.interrupt }),
    })
    const push = putManifest(at, app, 'v1')
    await paused.reached
    await at.collector.done(1, [keys.layer(layer)])
    paused.resume()
    await push
    expect(await at.collector.rescues(1)).toEqual([appNames.toSorted()])
    const writes = at.operations().filter((operation) => operation === `write ${short(keys.tag('v1'))}`)
    expect(writes).toHaveLength(2)
  })

  test('between the rescue and the second look at the records, sends it back to R1', async () => {
    using paused = pause()
    const isRescue = ({ verb, key }: { verb: string; key: string }) =>
      verb === 'write' && key.startsWith('stowage/gc/rescues/')
    using at = await openWithImage({
      wrap: (driver) =>
        interruptDriver(driver, { at: 1, when: 'after', matches: isRescue, interrupt: paused.interrupt }),
    })
    await at.collector.done(1, [keys.layer(layer)])
    const push = putManifest(at, app, 'v1')
    await paused.reached
    await at.collector.done(2, [keys.data(config)])
    paused.resume()
    await push
    expect(await at.collector.rescues(2)).toEqual([appNames.toSorted()])
    const operations = at.operations()
    const firstCheck = operations.findIndex((operation) => operation.startsWith('stat _layers'))
    expect(operations.indexOf('write gc/rescues/0000000002/ID')).toBeLessThan(firstCheck)
  })

  test('means nothing where it was deposed, and that it says done afterwards changes nothing', async () => {
    using paused = pause()
    using at = await openWithImage({
      wrap: (driver) =>
        interruptDriver(driver, { at: 1, when: 'before', matches: isDataWrite, interrupt: paused.interrupt }),
    })
    await at.collector.owner(1)
    const push = putManifest(at, app, 'v1')
    await paused.reached
    await at.collector.condemned(1, [keys.layer(layer)])
    await at.collector.end(1, 'deposed')
    await at.collector.owner(2)
    await expect(at.collector.end(1, 'done', ['0'])).rejects.toThrow('condition')
    paused.resume()
    await push
    expect(await keysOf(at.storage, 'stowage/gc/rescues/')).toEqual([])
    const operations = at.operations()
    expect(operations.filter((operation) => operation === `write ${short(keys.tag('v1'))}`)).toHaveLength(1)
  })

  test('twenty times in a row, costs the client one more try, and says so', async () => {
    let runs = 0
    using at = await openWithImage({
      wrap: (driver) => ({
        ...driver,
        async write(key, bytes, options) {
          await driver.write(key, bytes, options)
          if (key === keys.tag('v1')) await at.collector.done(++runs)
        },
      }),
    })
    await expect(putManifest(at, app, 'v1')).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      status: 503,
      headers: { 'Retry-After': '5' },
    })
    await settled()
  })
})
