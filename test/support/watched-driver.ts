import type { Driver } from '../../src/storage/driver.ts'

export interface WatchedDriver {
  readonly driver: Driver
  /** Uploads and appends that were neither completed nor given up. */
  openWrites(): number
  /** Streams whose iteration has begun and not ended. */
  openStreams(): number
}

/** Counts what a driver was asked to begin and never to end. */
export function watchDriver(driver: Driver): WatchedDriver {
  const writes = new Set<symbol>()
  const streams = new Set<symbol>()

  async function* counted(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    const id = Symbol('stream')
    streams.add(id)
    try {
      yield* body
    } finally {
      streams.delete(id)
    }
  }
  return {
    openWrites: () => writes.size,
    openStreams: () => streams.size,
    driver: {
      ...driver,
      async stream(key, options) {
        const found = await driver.stream(key, options)
        return found && { ...found, body: counted(found.body) }
      },
      async upload(key, options) {
        const upload = await driver.upload(key, options)
        const id = Symbol(key)
        writes.add(id)
        return {
          write: (chunk) => upload.write(chunk),
          async complete(completion) {
            await upload.complete(completion)
            writes.delete(id)
          },
          async abort() {
            await upload.abort()
            writes.delete(id)
          },
        }
      },
      async append(prefix, offset, options) {
        const append = await driver.append(prefix, offset, options)
        const id = Symbol(prefix)
        writes.add(id)
        return {
          write: (chunk) => append.write(chunk),
          close: () => append.close().finally(() => writes.delete(id)),
        }
      },
    },
  }
}
