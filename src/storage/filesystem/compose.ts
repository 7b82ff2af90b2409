import { link } from 'node:fs/promises'
import type { Clock } from '../../clock.ts'
import { PreconditionFailed, type Listed } from '../driver.ts'
import { codeOf } from './errors.ts'
import { openFile, statFile, unlinkIfThere } from './info.ts'
import type { Paths } from './paths.ts'
import { writeFileWith, type FileSink } from './sink.ts'
import { readAhead } from './stream.ts'

/** A link shares the time of its source, and a copy must not look older than it is to a collection. */
const maxLinkedAgeMs = 10 * 60_000

/** Where a source cannot be linked though it could be read: other owner, other device, too many names. */
const unlinkable = new Set(['EPERM', 'EXDEV', 'EMLINK', 'ENOTSUP'])

/**
 * Makes the file `path` out of objects. One becomes a second name of the same file (no byte is copied): that is safe
 * because no object is ever written in place.
 * @throws PreconditionFailed where a source is gone or is not what was listed
 */
export async function composeFile(
  paths: Paths,
  clock: Clock,
  sources: readonly Listed[],
  path: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const [only] = sources
  const isYoung = only && clock.now() - only.object.modified < maxLinkedAgeMs
  if (isYoung && sources.length === 1 && (await linkSource(paths, only, path))) return
  await writeFileWith(path, async (sink) => {
    for (const source of sources) await copySource(paths, source, sink, signal)
  })
}

async function linkSource(paths: Paths, source: Listed, path: string): Promise<boolean> {
  const from = paths.ofReadable(source.key)
  if (from === undefined) throw new PreconditionFailed(source.key)
  const before = await statFile(from)
  refuseChanged(source, before?.version)
  try {
    await link(from, path)
  } catch (error) {
    if (unlinkable.has(codeOf(error) ?? '')) return false
    if (!(await statFile(from))) throw new PreconditionFailed(source.key, { cause: error })
    throw error
  }
  const linked = await statFile(path)
  if (linked?.version !== source.object.version) await unlinkIfThere(path)
  refuseChanged(source, linked?.version)
  return true
}

async function copySource(
  paths: Paths,
  source: Listed,
  sink: FileSink,
  signal: AbortSignal | undefined,
): Promise<void> {
  const from = paths.ofReadable(source.key)
  const file = from === undefined ? undefined : await openFile(from)
  if (!file) throw new PreconditionFailed(source.key)
  const { size, version } = file.object
  const body = readAhead(file.handle, { start: 0, end: size - 1 }, signal)
  try {
    refuseChanged(source, version)
    for await (const chunk of body) {
      await sink.write(chunk)
      // The reader takes its buffer back when the next chunk is asked for.
      await sink.flush()
    }
  } finally {
    await body.return?.()
  }
}

function refuseChanged(source: Listed, version: string | undefined): void {
  if (version !== source.object.version) throw new PreconditionFailed(source.key)
}
