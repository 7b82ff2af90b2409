import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { byteBudget } from '../../../src/storage/buffers.ts'

const turn = () => new Promise((resolve) => setImmediate(resolve))

describe('the budget of bytes', () => {
  test('gives at once while there is enough, and lets the rest wait in their order', async () => {
    const budget = byteBudget(100)
    const order: string[] = []
    const first = await budget.acquire(60)
    const big = budget.acquire(80).then((release) => (order.push('big'), release))
    const small = budget.acquire(10).then((release) => (order.push('small'), release))
    await turn()
    expect(order).toEqual([])
    expect(budget.heldBytes()).toBe(60)
    first()
    await Promise.all([big, small])
    expect(order).toEqual(['big', 'small'])
    expect(budget.heldBytes()).toBe(90)
  })

  test('gives all there is to one that asks for more', async () => {
    const budget = byteBudget(100)
    const release = await budget.acquire(1000)
    expect(budget.heldBytes()).toBe(100)
    release()
    release()
    expect(budget.heldBytes()).toBe(0)
  })

  test('forgets who has gone, and serves those behind', async () => {
    const budget = byteBudget(100)
    const first = await budget.acquire(60)
    const gone = new AbortController()
    const big = budget.acquire(80, gone.signal)
    const small = budget.acquire(30)
    gone.abort(new Error('gone'))
    await expect(big).rejects.toThrow('gone')
    const release = await small
    expect(budget.heldBytes()).toBe(90)
    release()
    first()
    expect(budget.heldBytes()).toBe(0)
    await expect(budget.acquire(1, gone.signal)).rejects.toThrow('gone')
  })

  test('never gives more than it has, serves everyone, and ends with nothing held', async () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 150 }), { minLength: 1, maxLength: 40 })
    await fc.assert(
      fc.asyncProperty(sizes, fc.integer({ min: 1, max: 120 }), async (wanted, maxBytes) => {
        const budget = byteBudget(maxBytes)
        await Promise.all(
          wanted.map(async (bytes) => {
            const release = await budget.acquire(bytes)
            expect(budget.heldBytes()).toBeLessThanOrEqual(maxBytes)
            await Promise.resolve()
            release()
          }),
        )
        expect(budget.heldBytes()).toBe(0)
        expect(budget.peakBytes()).toBeLessThanOrEqual(maxBytes)
      }),
    )
  })
})
