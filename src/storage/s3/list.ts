import { ListObjectsV2Command, type ListObjectsV2CommandOutput } from '@aws-sdk/client-s3'
import type { CallOptions, Listed } from '../driver.ts'
import type { Bucket } from './client.ts'
import { versionOf } from './read.ts'

type ListOptions = CallOptions & { readonly after?: string }

/** Sorts after every character of a key, so that `a/` plus this comes after all that lies below `a/`. */
const afterAll = '\x7f'

export async function* list(bucket: Bucket, prefix: string, options: ListOptions): AsyncGenerator<Listed> {
  for await (const { Contents = [] } of pages(bucket, prefix, options)) {
    for (const { Key = '', Size: size = 0, LastModified, ETag } of Contents) {
      const object = { size, modified: LastModified?.getTime() ?? 0, version: versionOf(ETag) }
      yield { key: bucket.short(Key), object }
    }
  }
}

export async function* listNames(
  bucket: Bucket,
  folder: string,
  options: ListOptions,
): AsyncGenerator<string> {
  const { after = '' } = options
  // A delimiter and StartAfter `a/` would bring `a/` again, since there are keys below it.
  const start = after === '' ? {} : { after: folder + (after.endsWith('/') ? after + afterAll : after) }
  const signal = options.signal && { signal: options.signal }
  for await (const { Contents = [], CommonPrefixes = [] } of pages(bucket, folder, {
    ...signal,
    ...start,
    delimiter: '/',
  })) {
    const keys = [...Contents.map(({ Key }) => Key), ...CommonPrefixes.map(({ Prefix }) => Prefix)]
    const names = keys.map((key = '') => bucket.short(key).slice(folder.length))
    // A page is a piece of the one order of both; within it they come apart.
    for (const name of names.toSorted(byBytes)) if (name > after) yield name
  }
}

/** UTF-16 units sort as UTF-8 bytes do for all that may be in a key, which is ASCII. */
const byBytes = (a: string, b: string) => (a < b ? -1 : 1)

interface PageOptions extends ListOptions {
  readonly delimiter?: string
}

/** The pages of a listing; the next one is on its way while one is used. */
async function* pages(
  bucket: Bucket,
  prefix: string,
  { after, delimiter, signal }: PageOptions,
): AsyncGenerator<ListObjectsV2CommandOutput> {
  const ended = new AbortController()
  const either = signal ? AbortSignal.any([signal, ended.signal]) : ended.signal
  const ask = async (token: string | undefined) => {
    const command = () =>
      new ListObjectsV2Command({
        Bucket: bucket.name,
        Prefix: bucket.full(prefix),
        ...(delimiter !== undefined && { Delimiter: delimiter }),
        ...(after && token === undefined && { StartAfter: bucket.full(after) }),
        ...(token !== undefined && { ContinuationToken: token }),
      })
    return (await bucket.send(command, { key: `${prefix}*`, signal: either })).output
  }
  try {
    let next: Promise<ListObjectsV2CommandOutput> | undefined = ask(undefined)
    while (next) {
      const page: ListObjectsV2CommandOutput = await next
      next = page.IsTruncated ? ask(page.NextContinuationToken) : undefined
      next?.catch(() => {
        // It is told when the page is asked for, or to nobody when the listing ends before.
      })
      yield page
    }
  } finally {
    ended.abort()
  }
}
