import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { digestOf, type Digest } from '../../src/oci/digest.ts'
import { uploadsFolder } from '../../src/registry/layout.ts'
import { memoryDriver } from '../../src/storage/memory.ts'
import { keysOf, openTestRegistry, type Answer, type TestRegistry } from '../support/registry.ts'

/** One request of an upload: who gets it, and how its bytes are sent. */
interface Step {
  readonly server: 0 | 1
  readonly bytes: Uint8Array
  readonly hasRange: boolean
  readonly isChunked: boolean
  /** Before it, something that the session must survive. */
  readonly before: 'nothing' | 'status' | 'out of order' | 'too long' | 'wrong digest' | 'repeat'
}

const step: fc.Arbitrary<Step> = fc.record({
  server: fc.constantFrom(0, 1),
  bytes: fc.uint8Array({ maxLength: 40, size: 'max' }),
  hasRange: fc.boolean(),
  isChunked: fc.boolean(),
  before: fc.constantFrom(
    'nothing',
    'nothing',
    'status',
    'out of order',
    'too long',
    'wrong digest',
    'repeat',
  ),
})

async function* pieces(bytes: Uint8Array) {
  for (let at = 0; at < bytes.length; at += 7) yield bytes.subarray(at, at + 7)
}

function bodyOf({ bytes, hasRange, isChunked }: Step, offset: number) {
  const range = { 'Content-Range': `${offset}-${offset + bytes.length - 1}` }
  return {
    body: isChunked ? pieces(bytes) : bytes,
    // There is no range of nothing.
    headers: hasRange && bytes.length > 0 ? range : {},
  }
}

const zero = `sha256:${'0'.repeat(64)}`

async function disturb(at: TestRegistry, location: string, step: Step, offset: number): Promise<void> {
  const expectRefusal = ({ status }: Answer, expected: number) => expect(status).toBe(expected)
  const last = Math.max(0, offset - 1)
  switch (step.before) {
    case 'out of order':
      return expectRefusal(
        await at.send(`PATCH ${location}`, {
          body: 'x',
          headers: { 'Content-Range': `${offset + 1}-${offset + 1}` },
        }),
        416,
      )
    case 'too long':
      return expectRefusal(
        await at.send(`PATCH ${location}`, {
          body: 'xy',
          headers: { 'Content-Range': `${offset}-${offset}` },
        }),
        400,
      )
    case 'wrong digest':
      return expectRefusal(await at.send(`PUT ${location}?digest=${zero}`), 400)
    case 'repeat':
      if (offset === 0) return
      return expectRefusal(
        await at.send(`PATCH ${location}`, { body: 'x', headers: { 'Content-Range': `${last}-${last}` } }),
        416,
      )
    case 'status':
      return expect((await at.send(`GET ${location}`)).headers.range).toBe(`0-${last}`)
    case 'nothing':
  }
}

test('a blob, cut in any way over two servers, is that blob; under another digest it never is', async () => {
  const driver = memoryDriver()
  await using one = await openTestRegistry({ driver })
  await using two = await openTestRegistry({ driver })
  const servers = [one, two]
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 6 }),
      step,
      fc.constantFrom('sha256', 'sha512'),
      fc.constantFrom('sha256', 'sha512'),
      async (patches, put, announced, algorithm) => {
        const begun = await one.send(`POST /v2/a/blobs/uploads/?digest-algorithm=${announced}`)
        const location = begun.headers.location ?? ''
        let received = Buffer.alloc(0)
        for (const patch of patches) {
          const at = servers[patch.server] ?? one
          await disturb(at, location, patch, received.length)
          const answer = await at.send(`PATCH ${location}`, bodyOf(patch, received.length))
          received = Buffer.concat([received, patch.bytes])
          expect(answer).toMatchObject({
            status: 202,
            headers: { range: `0-${Math.max(0, received.length - 1)}` },
          })
        }
        const whole = Buffer.concat([received, put.bytes])
        const digest: Digest = digestOf(whole, algorithm)
        const at = servers[put.server] ?? one
        await disturb(at, location, put, received.length)
        const answer = await at.send(`PUT ${location}?digest=${digest}`, bodyOf(put, received.length))
        expect(answer).toMatchObject({ status: 201, headers: { 'docker-content-digest': digest } })
        for (const { send } of servers) expect((await send(`GET /v2/a/blobs/${digest}`)).body).toEqual(whole)
        expect((await one.send(`HEAD /v2/a/blobs/${zero}`)).status).toBe(404)
        await two.send(`DELETE /v2/a/blobs/${digest}`)
      },
    ),
    { numRuns: 100 },
  )
  expect(await keysOf(driver, uploadsFolder)).toEqual([])
})
