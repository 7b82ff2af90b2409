/** docs/GARBAGE-COLLECTION.md, "The writer": what a push asks of the storage, and in which order. */
import { describe, expect, test } from '@jest/globals'
import { parseRepositoryName, parseTag } from '../../../src/oci/names.ts'
import {
  chunksOf,
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
  shortKey,
  type ProtocolRegistry,
} from '../../support/protocol-registry.ts'

const app = image('config', ['layer'])
const config = digestOfText('config')
const layer = digestOfText('layer')
const short = shortKey

async function openWithBlobs(...blobs: readonly string[]): Promise<ProtocolRegistry> {
  const at = await openProtocolRegistry()
  for (const blob of blobs) await pushBlob(at, blob)
  at.operations()
  return at
}

const records = (operations: readonly string[]) =>
  operations.filter((operation) => operation.includes('gc/runs'))

describe('with no collector', () => {
  test('a manifest costs two HEADs of records, around its existence checks and its writes, the tag last', async () => {
    using at = await openWithBlobs('config', 'layer')
    await putManifest(at, app, 'v1')
    expect(at.operations()).toEqual([
      // R1
      'stat gc/runs/0000000001/owner',
      // R3
      `stat ${short(keys.layer(config))}`,
      `stat ${short(keys.data(config))}`,
      `stat ${short(keys.layer(layer))}`,
      `stat ${short(keys.data(layer))}`,
      // R4
      `write ${short(keys.data(app.digest))}`,
      `write ${short(keys.revision(app.digest))}`,
      `write ${short(keys.history('v1', app.digest))}`,
      `write ${short(keys.tag('v1'))}`,
      // R5
      'stat gc/runs/0000000001/owner',
    ])
  })

  test('a referrer has its link after its revision and before the tags, of which there may be several', async () => {
    using at = await openWithBlobs('config', 'layer')
    const subject = digestOfText('a subject that is not here')
    const mediaType = 'application/vnd.oci.image.manifest.v1+json'
    const referrer = image('config', ['layer'], { subject: { mediaType, digest: subject, size: 7 } })
    await putManifest(at, referrer, 'v1', ['v2'])
    const writes = at.operations().filter((operation) => operation.startsWith('write'))
    expect(writes).toEqual([
      `write ${short(keys.data(referrer.digest))}`,
      `write ${short(keys.revision(referrer.digest))}`,
      `write ${short(keys.referrer(subject, referrer.digest))}`,
      `write ${short(keys.history('v1', referrer.digest))}`,
      `write ${short(keys.tag('v1'))}`,
      `write ${short(keys.history('v2', referrer.digest))}`,
      `write ${short(keys.tag('v2'))}`,
    ])
  })

  test('an index asks for its children, and for what those that are present need', async () => {
    using at = await openWithBlobs('config', 'layer')
    await putManifest(at, app)
    at.operations()
    const absent = image('no config', ['no layer'])
    const index = imageIndex([descriptor(app), descriptor(absent)])
    await putManifest(at, index, 'multi')
    const operations = at.operations()
    expect(records(operations)).toHaveLength(2)
    const [began, ended] = [
      operations.indexOf('stat gc/runs/0000000001/owner'),
      operations.lastIndexOf('stat gc/runs/0000000001/owner'),
    ]
    const firstWrite = operations.findIndex((operation) => operation.startsWith('write'))
    const checks = operations.slice(began + 1, firstWrite)
    expect(new Set(checks)).toEqual(
      new Set([
        `stat ${short(keys.revision(app.digest))}`,
        `stat ${short(keys.data(app.digest))}`,
        `stat ${short(keys.revision(absent.digest))}`,
        `stat ${short(keys.layer(config))}`,
        `stat ${short(keys.data(config))}`,
        `stat ${short(keys.layer(layer))}`,
        `stat ${short(keys.data(layer))}`,
      ]),
    )
    expect(ended).toBe(operations.length - 1)
  })

  test('a blob costs one HEAD of records, after its last byte', async () => {
    using at = await openWithBlobs()
    await pushBlob(at, 'layer')
    const operations = at.operations()
    expect(operations).toEqual([
      'write uploads/ID/session',
      `upload ${short(keys.data(layer))}`,
      'stat gc/runs/0000000001/owner',
      `stat ${short(keys.data(layer))}`,
      `complete ${short(keys.data(layer))}`,
      `write ${short(keys.layer(layer))}`,
      'remove uploads/ID/session',
    ])
  })

  test('a blob whose digest comes last costs one HEAD of records too', async () => {
    using at = await openWithBlobs()
    const session = await at.registry.uploads.start(repository, 'sha256')
    const [first, second] = [Buffer.from('lay'), Buffer.from('er')]
    await at.registry.uploads.append(repository, session.id, { chunks: chunksOf(first), size: 3 })
    at.operations()
    await at.registry.uploads.finish(repository, session.id, layer, { chunks: chunksOf(second), size: 2 })
    expect(at.operations()).toEqual([
      'list uploads/ID/',
      'append uploads/ID/data/',
      'close uploads/ID/data/',
      'stat gc/runs/0000000001/owner',
      `stat ${short(keys.data(layer))}`,
      `compose ${short(keys.data(layer))}`,
      `write ${short(keys.layer(layer))}`,
      'remove uploads/ID/data/0000000000000000',
      'remove uploads/ID/session',
    ])
  })

  test('a mount costs one HEAD of records', async () => {
    using at = await openWithBlobs()
    const elsewhere = parseRepositoryName('library/other')
    await pushBlob(at, 'layer', elsewhere)
    at.operations()
    expect(await at.registry.blobs.mount(repository, layer, elsewhere)).toBe(true)
    const operations = at.operations()
    expect(records(operations)).toEqual(['stat gc/runs/0000000001/owner'])
    expect(operations[0]).toBe('stat gc/runs/0000000001/owner')
    expect(operations.at(-1)).toBe(`write ${short(keys.layer(layer))}`)
    expect(operations).toHaveLength(4)
  })

  test('nothing is left behind but what was pushed', async () => {
    using at = await openProtocolRegistry()
    const before = await keysOf(at.storage)
    for (const blob of ['config', 'layer']) await pushBlob(at, blob)
    await putManifest(at, app, 'v1')
    const made = (await keysOf(at.storage)).filter((key) => !before.includes(key))
    expect(new Set(made)).toEqual(
      new Set([
        ...[config, layer, app.digest].map(keys.data),
        ...[config, layer].map(keys.layer),
        keys.revision(app.digest),
        keys.tag('v1'),
        keys.history('v1', app.digest),
      ]),
    )
  })
})

describe('with runs that condemned other things', () => {
  test('costs and order stay the same, whatever the runs said', async () => {
    using at = await openWithBlobs('config', 'layer')
    await at.collector.done(1, ['some/key', keys.data(digestOfText('another layer'))])
    await at.collector.deposed(2)
    await at.collector.done(3, ['other/key'])
    await at.registry.blobs.commit(repository, layer, async () => undefined)
    at.operations()

    await putManifest(at, app, 'v1')
    const operations = at.operations()
    expect(records(operations)).toEqual(['stat gc/runs/0000000004/owner', 'stat gc/runs/0000000004/owner'])
    expect(operations[0]).toBe('stat gc/runs/0000000004/owner')
    expect(operations.at(-1)).toBe('stat gc/runs/0000000004/owner')
    expect(await keysOf(at.storage, 'stowage/gc/rescues/')).toEqual([])

    await pushBlob(at, 'a new layer')
    expect(records(at.operations())).toEqual(['stat gc/runs/0000000004/owner'])
  })

  test('while a run is under way its end is asked for, and that is one HEAD too', async () => {
    using at = await openWithBlobs('config', 'layer')
    await at.collector.done(1, ['some/key'])
    await at.collector.owner(2)
    await pushBlob(at, 'first to see run 2')
    at.operations()
    await putManifest(at, app, 'v1')
    expect(records(at.operations())).toEqual(['stat gc/runs/0000000002/end', 'stat gc/runs/0000000002/end'])
  })

  test('a push does not wait for an open round that names other keys', async () => {
    using at = await openWithBlobs('config', 'layer')
    await at.collector.done(1, [keys.layer(layer)])
    await at.collector.owner(2)
    await at.collector.sweeping(2, 1, ['some/key'])
    const before = at.clock.monotonic()
    await putManifest(at, app, 'v1')
    expect(at.clock.monotonic()).toBe(before)
    expect(await at.registry.tags.resolve(repository, parseTag('v1'))).toBe(app.digest)
  })
})
