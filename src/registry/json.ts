import { z } from 'zod'
import { StorageUnavailable } from '../storage/driver.ts'

/** The version of every JSON object of ours in the bucket. One with a higher number is not guessed at. */
export const formatVersion = 1

const formatSchema = z.object({ format: z.number().int().positive() })

export function encodeJson(value: Readonly<Record<string, unknown>>): Buffer {
  return Buffer.from(JSON.stringify({ format: formatVersion, ...value }) + '\n')
}

/**
 * Reads an object of ours. Fields that we do not know are ignored.
 * @throws StorageUnavailable where a newer version of Stowage wrote it, Error where it is damaged
 */
export function decodeJson<T>(key: string, bytes: Uint8Array, schema: z.ZodType<T>): T {
  let json: unknown
  try {
    json = JSON.parse(Buffer.from(bytes).toString())
  } catch (cause) {
    throw new Error(`${key} is not JSON: it has been damaged`, { cause })
  }
  const format = formatSchema.safeParse(json)
  if (format.success && format.data.format > formatVersion) {
    throw new StorageUnavailable(
      `${key} has format ${format.data.format}, written by a newer version of Stowage; this one knows ${formatVersion}: upgrade it`,
    )
  }
  const result = schema.safeParse(json)
  if (result.success) return result.data
  throw new Error(`${key} is damaged: ${z.prettifyError(result.error)}`)
}
