/** Calls `each` for every item, at most `limit` at a time. The first failure stops it, once those begun have ended. */
export async function inParallel<T>(
  items: Iterable<T>,
  limit: number,
  each: (item: T, index: number) => Promise<void>,
): Promise<void> {
  const queue = [...items].entries()
  const failures: unknown[] = []
  const work = async () => {
    for (const [index, item] of queue) {
      if (failures.length > 0) return
      await each(item, index).catch((error: unknown) => failures.push(error))
    }
  }
  await Promise.all(Array.from({ length: limit }, work))
  if (failures.length > 0) throw failures[0]
}
