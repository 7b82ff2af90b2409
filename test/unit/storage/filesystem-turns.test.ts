import { describe, expect, test } from '@jest/globals'
import { lookByTurns } from '../../../src/storage/filesystem/turns.ts'
import { manualClock } from '../../support/manual-clock.ts'

const turn = () => new Promise((resolve) => setImmediate(resolve))

/** Looks that take `costMs` of the clock each, and are counted. */
function setUp(costMs: (path: string) => number) {
  const clock = manualClock()
  const looks: string[] = []
  const look = lookByTurns(
    clock,
    (path) => {
      clock.advance(costMs(path))
      looks.push(path)
      if (path === 'broken') throw new Error('cannot be read')
      return `${path} as of look ${looks.length}`
    },
    async (path) => `${path} through the pool`,
  )
  return { clock, look, looks }
}

describe('looking by turns', () => {
  test('requests of one turn share a look that begins after the last of them', async () => {
    const { look, looks } = setUp(() => 0)
    const first = look('a')
    await Promise.resolve()
    const second = look('a')
    const other = look('b')
    expect(looks).toEqual([])
    expect(await Promise.all([first, second, other])).toEqual([
      'a as of look 1',
      'a as of look 1',
      'b as of look 2',
    ])
  })

  test('a request that arrives after a look began gets a new one', async () => {
    const { look } = setUp(() => 0)
    expect(await look('a')).toBe('a as of look 1')
    expect(await look('a')).toBe('a as of look 2')
  })

  test('a failure reaches everybody who waits for that path, and nobody else', async () => {
    const { look } = setUp(() => 0)
    const results = await Promise.allSettled([look('broken'), look('a'), look('broken')])
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'rejected'])
  })

  test('a turn that takes too long leaves the rest to the next ones, in their order', async () => {
    const { look, looks } = setUp(() => 1)
    const all = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((path) => look(path))
    await turn()
    expect(looks).toEqual(['a', 'b', 'c'])
    await turn()
    expect(looks).toEqual(['a', 'b', 'c', 'd', 'e', 'f'])
    expect(await Promise.all(all)).toHaveLength(7)
  })

  test('what still waits for its look may be joined', async () => {
    const { look, looks } = setUp(() => 1)
    const early = ['a', 'b', 'c', 'd'].map((path) => look(path))
    await turn()
    const joined = look('d')
    await Promise.all([...early, joined])
    expect(looks).toEqual(['a', 'b', 'c', 'd'])
  })

  test('a slow disk is left to the thread pool for a while', async () => {
    const { clock, look } = setUp((path) => (path === 'slow' ? 11 : 0))
    expect(await look('slow')).toBe('slow as of look 1')
    expect(await look('a')).toBe('a through the pool')
    clock.advance(5_000)
    expect(await look('a')).toBe('a as of look 2')
  })
})
