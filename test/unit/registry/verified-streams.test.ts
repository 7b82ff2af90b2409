import { describe, expect, test } from '@jest/globals'
import { digestOf } from '../../../src/oci/digest.ts'
import { verifiedStreams } from '../../../src/registry/verified-streams.ts'
import type { ObjectStream } from '../../../src/storage/driver.ts'

const content = Buffer.from('0123456789')
const digest = digestOf(content)

/** A stream that notes whether it was ended, of an object whose size is what it should be. */
function streamOf(chunks: readonly Buffer[], version = '1') {
  const state = { ended: 0 }
  async function* read() {
    yield* chunks
  }
  const inner = read()
  const body = {
    [Symbol.asyncIterator]: () => ({
      next: () => inner.next(),
      return: () => {
        state.ended++
        return inner.return()
      },
    }),
  }
  const stream: ObjectStream = { object: { size: content.length, modified: 0, version }, body }
  return { state, stream }
}

function verifier() {
  const state = { damaged: 0 }
  return { state, verified: verifiedStreams(() => state.damaged++) }
}

async function read(stream: ObjectStream): Promise<string> {
  return Buffer.concat(await Array.fromAsync(stream.body)).toString()
}

const right = [content.subarray(0, 4), content.subarray(4)]
const wrong = [content.subarray(0, 4), Buffer.from('456788')]

test('bytes that are right pass, and are not hashed again while the object is the same', async () => {
  const { verified, state } = verifier()
  expect(await read(verified(digest, streamOf(right).stream))).toBe('0123456789')
  const again = streamOf(right).stream
  expect(verified(digest, again)).toBe(again)
  const changed = streamOf(wrong, '2').stream
  await expect(read(verified(digest, changed))).rejects.toThrow('damaged')
  expect(state.damaged).toBe(1)
})

test('bytes that are wrong end before their last chunk, and what holds them is freed', async () => {
  const { verified, state } = verifier()
  const { stream, state: source } = streamOf(wrong)
  const received: string[] = []
  await expect(async () => {
    for await (const chunk of verified(digest, stream).body) received.push(chunk.toString())
  }).rejects.toThrow(`blob ${digest} has been damaged in storage: its bytes have the digest sha256:`)
  expect(received).toEqual(['0123'])
  expect([state.damaged, source.ended]).toEqual([1, 1])
  await expect(read(verified(digest, streamOf(wrong).stream))).rejects.toThrow('damaged')
})

test('bytes that are too few are damage, and nothing that was verified', async () => {
  const { verified, state } = verifier()
  expect(await read(verified(digest, streamOf(right.slice(0, 1)).stream))).toBe('0123')
  expect(state.damaged).toBe(1)
  const next = streamOf(right).stream
  expect(verified(digest, next)).not.toBe(next)
})

describe('a reader that gives up', () => {
  test.each([0, 1])(
    'after %i chunks frees what holds the bytes, and has found out nothing',
    async (count) => {
      const { verified, state } = verifier()
      const { stream, state: source } = streamOf(right)
      const chunks = verified(digest, stream).body[Symbol.asyncIterator]()
      for (let chunk = 0; chunk < count; chunk++) await chunks.next()
      await chunks.return?.()
      expect([source.ended, state.damaged]).toEqual([1, 0])
    },
  )
})
