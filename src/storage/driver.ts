/**
 * Bytes under keys: what the registry asks of a storage backend. A key is a path of printable ASCII without empty,
 * `.` or `..` elements, at most 1,024 bytes. verify-driver.ts holds every driver to the prose below.
 *
 * Promised by each driver:
 * - A write, a completed upload, a copy or a removal that was answered is seen by every later request, from any
 *   process (linearizable), and survives a crash.
 * - An object appears whole or not at all. What failed or was aborted leaves nothing visible.
 * - Absence is `undefined`, not an error.
 *
 * Errors, beside what the backend itself throws: PreconditionFailed, LeaseExpired, ObjectTooLarge, StorageUnavailable.
 */
export interface Driver {
  /** Whether there is an object, and the storage's own time of this very answer, also when there is none. */
  stat(key: string, options?: CallOptions): Promise<Stat>

  /** A small object, whole. One larger than `maxBytes` (default 16 MiB) is an error: it is not what it should be. */
  read(key: string, options?: CallOptions & { readonly maxBytes?: number }): Promise<Buffer | undefined>

  /**
   * An object, or a part of it, as a stream with back-pressure. A chunk is valid until the next one is asked for:
   * buffers are reused. Ending the iteration early frees everything. `object` describes the whole.
   */
  stream(key: string, options?: CallOptions & { readonly range?: Range }): Promise<ObjectStream | undefined>

  /**
   * A small object, atomically.
   * @throws PreconditionFailed with `ifAbsent`, where the key exists: of many writers at once one wins
   * @throws LeaseExpired where `lease` is over; nothing was written
   */
  write(key: string, bytes: Uint8Array, options?: WriteOptions): Promise<void>

  /** An object of unknown length, streamed straight to its final key, where it shows only once it is completed. */
  upload(key: string, options: UploadOptions): Promise<Upload>

  /**
   * Appends a stream to what lies under `prefix` as one or more segments: objects named by the offset of their first
   * byte (segmentKey), each written whole and only if absent. So segments never overlap, and of two who append at one
   * offset one gets PreconditionFailed.
   */
  append(prefix: string, offset: number, options?: CallOptions): Promise<Append>

  /**
   * One object out of others, in their order, without the bytes passing through this process where the backend can.
   * The sources stay. A source that is gone or has changed since `sources` were listed is a PreconditionFailed, and
   * nothing becomes visible. With one source it is a copy.
   */
  compose(sources: readonly Listed[], key: string, options?: ComposeOptions): Promise<void>

  /** The objects whose keys begin with `prefix` (any string), in the order of their keys' bytes. */
  list(prefix: string, options?: CallOptions & { readonly after?: string }): AsyncIterable<Listed>

  /**
   * The names directly below the folder `folder` (ends with "/" or is empty), each once, in byte order: `a` for an
   * object `a`, `a/` for objects below it. `after` skips names up to and including it.
   */
  listNames(folder: string, options?: CallOptions & { readonly after?: string }): AsyncIterable<string>

  /**
   * Removes objects; keys that do not exist are no error.
   * With `lease` it returns only when every attempt was answered or can no longer take effect.
   */
  remove(keys: readonly string[], options?: CallOptions & { readonly lease?: RemoveLease }): Promise<void>

  /**
   * Aborts an unfinished upload by what `UploadOptions.record` was given; one that has ended is no error. A handle
   * without an id comes from a crash in between: every unfinished upload to that very key which began before
   * `begunBefore` (by the storage's clock, in ms) is aborted.
   */
  abortUpload(upload: UploadHandle, options: CallOptions & { readonly begunBefore: number }): Promise<void>

  /** Removes what processes that died left of un-leased writes, if it is older than `olderThanMs` (file systems). */
  sweepTemporary?(olderThanMs: number): Promise<void>

  /** A URL with which a client can read the object itself for `seconds`, by this method alone; undefined: no such thing. */
  presign?(key: string, method: 'GET' | 'HEAD', seconds: number): Promise<string>

  /**
   * Where removals of a collection's round go through a folder of their own (file systems): takes that folder away,
   * so that no removal of the round can happen from now on. Where there is no such verb a round ends by its lease.
   */
  revokeRemovals?(round: string): Promise<void>

  close?(): Promise<void>
}

export interface CallOptions {
  readonly signal?: AbortSignal
}

/** Bytes `start` to `end`, both included; `end` is below the object's size. */
export interface Range {
  readonly start: number
  readonly end: number
}

export interface ObjectInfo {
  readonly size: number
  /** When it was last written, by the storage's clock, in ms; some backends know only whole seconds. */
  readonly modified: number
  /** Changes when the content changes. */
  readonly version: string
}

export interface Stat {
  /** The storage's own clock when it answered, in ms. */
  readonly date: number
  readonly object?: ObjectInfo
}

export interface ObjectStream {
  readonly object: ObjectInfo
  readonly body: AsyncIterable<Buffer>
}

export interface Listed {
  readonly key: string
  readonly object: ObjectInfo
}

/**
 * How long a write may still take effect, however late it reaches the storage (docs/GARBAGE-COLLECTION.md, R4).
 * Backends with signed requests sign with `date`; a file system writes through the temporary folder of `generation`.
 */
export interface WriteLease {
  readonly generation: number
  /** The storage's own time at R1, in ms; the write is refused once the storage's clock has passed date + durationMs. */
  readonly date: number
  readonly durationMs: number
}

/** The same for a removal: it has no effect once the storage's clock has passed date + durationMs. */
export interface RemoveLease {
  readonly date: number
  readonly durationMs: number
}

export interface WriteOptions extends CallOptions {
  readonly ifAbsent?: boolean
  /**
   * The key may get another value soon (a tag): an attempt without an answer is not repeated, since it could take
   * effect after the next writer's. It throws StorageUnavailable, which says mayStillHappen; an attempt that was
   * refused is repeated as usual.
   */
  readonly isRepeatable?: boolean
  readonly lease?: WriteLease
}

export interface ComposeOptions extends CallOptions, Recorded {
  readonly lease?: WriteLease
}

/** Names an unfinished upload, for whoever cleans up after a crash. Plain JSON. */
export interface UploadHandle {
  readonly key: string
  readonly id?: string
}

/** What outlives a crash in the middle, and how others learn of it. */
export interface Recorded {
  /**
   * Called, and waited for, before something comes into being that only abortUpload would clean up (without an id),
   * and again right after, with its id. Never called where there is no such thing: small bodies, file systems.
   */
  readonly record?: (upload: UploadHandle) => Promise<void>
}

export interface UploadOptions extends CallOptions, Recorded {
  /** How many bytes will come, where that is known: lets the driver choose the size of its parts. */
  readonly size?: number
}

/** A stream on its way to its key. Use it from one caller, a call at a time. */
export interface Upload {
  /** Takes the chunk over, and resolves when the next one may come (back-pressure). */
  write(chunk: Buffer): Promise<void>
  /** @throws LeaseExpired the upload is still there: complete it with a newer lease, or abort it */
  complete(options?: { readonly lease?: WriteLease }): Promise<void>
  /** Frees everything; nothing becomes visible. After complete() it does nothing. */
  abort(): Promise<void>
}

/** Bytes on their way behind a prefix. Use it from one caller, a call at a time. */
export interface Append {
  write(chunk: Buffer): Promise<void>
  /** Makes all that was written durable, also when the client went away in between. */
  close(): Promise<readonly Listed[]>
}

/** The key of the segment that begins at `offset`: keys sort as the offsets do. */
export function segmentKey(prefix: string, offset: number): string {
  return `${prefix}${String(offset).padStart(16, '0')}`
}

export class PreconditionFailed extends Error {
  override readonly name = 'PreconditionFailed'
  constructor(key: string, options?: ErrorOptions) {
    super(`the condition on ${key} does not hold`, options)
  }
}

export class LeaseExpired extends Error {
  override readonly name = 'LeaseExpired'
  constructor(key: string, options?: ErrorOptions) {
    super(`the lease of a write to ${key} has expired`, options)
  }
}

/** More bytes than the storage, or the memory for its parts, can take in one object. */
export class ObjectTooLarge extends Error {
  override readonly name = 'ObjectTooLarge'
}

/** The storage does not answer, or asks to be asked later. */
export class StorageUnavailable extends Error {
  override readonly name = 'StorageUnavailable'
  readonly retryAfterSeconds: number
  /** It was asked and did not answer: what it was asked for may take effect yet. */
  readonly mayStillHappen: boolean
  constructor(
    message: string,
    options: ErrorOptions & { readonly retryAfterSeconds?: number; readonly mayStillHappen?: boolean } = {},
  ) {
    super(message, options)
    this.retryAfterSeconds = options.retryAfterSeconds ?? 1
    this.mayStillHappen = options.mayStillHappen ?? false
  }
}
