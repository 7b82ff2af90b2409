import type { ByteBudget } from '../buffers.ts'

export interface PiecesOptions {
  readonly memory: ByteBudget
  /** How many pieces are on their way at once. */
  readonly concurrency: number
  /** The size of the piece that begins at an offset (of the stream, from 0 on). */
  readonly sizeAt: (offset: number) => number
  /** Sends one piece; `bytes` is reused when it has returned. */
  readonly send: (piece: Piece) => Promise<void>
  /** Ends the wait for memory. */
  readonly signal?: AbortSignal
}

export interface Piece {
  readonly index: number
  readonly offset: number
  readonly bytes: Buffer
}

/**
 * Cuts a stream into pieces and sends them, several at once. Memory for a piece is taken before its first byte comes,
 * and given back when it was sent; whoever waits for memory holds only pieces that are on their way, so that many
 * streams wait for each other but never forever.
 */
export class Pieces {
  readonly #options: PiecesOptions
  readonly #sending = new Set<Promise<void>>()
  readonly #releases = new Set<() => void>()
  #current: { readonly piece: Piece; filled: number; readonly release: () => void } | undefined
  #index = 0
  #offset = 0
  #failure: { readonly error: unknown } | undefined

  constructor(options: PiecesOptions) {
    this.#options = options
  }

  /** How many bytes came. */
  get size(): number {
    return this.#offset + (this.#current?.filled ?? 0)
  }

  async write(chunk: Buffer): Promise<void> {
    let at = 0
    while (at < chunk.length) {
      this.#rethrow()
      // Only when another byte follows: what fits into one piece stays here, for the caller to send as a whole.
      if (this.#current && this.#current.filled === this.#current.piece.bytes.length) await this.sendCurrent()
      const current = (this.#current ??= await this.#begin())
      const copied = chunk.copy(current.piece.bytes, current.filled, at)
      current.filled += copied
      at += copied
    }
    this.#rethrow()
  }

  /** The piece that was not sent yet, as far as it is filled. */
  get current(): Piece | undefined {
    if (!this.#current) return undefined
    const { piece, filled } = this.#current
    return { ...piece, bytes: piece.bytes.subarray(0, filled) }
  }

  /** Begins to send the current piece; waits while too many are on their way. */
  async sendCurrent(): Promise<void> {
    while (this.#sending.size >= this.#options.concurrency) await Promise.race(this.#sending)
    this.#rethrow()
    const piece = this.current
    const release = this.#current?.release
    if (!piece || !release) return
    this.#current = undefined
    this.#index++
    this.#offset += piece.bytes.length
    const sent = this.#options
      .send(piece)
      .catch((error: unknown) => {
        this.#failure ??= { error }
      })
      .finally(() => {
        this.#sending.delete(sent)
        this.#free(release)
      })
    this.#sending.add(sent)
  }

  /** Waits until nothing is on its way. */
  async settle(): Promise<void> {
    await Promise.all(this.#sending)
  }

  /** @throws what the first piece that could not be sent met */
  async sendAll(): Promise<void> {
    await this.sendCurrent()
    await this.settle()
    this.#rethrow()
  }

  /** Gives all memory back; nothing may be on its way. */
  free(): void {
    this.#current = undefined
    for (const release of this.#releases) release()
    this.#releases.clear()
  }

  async #begin() {
    const { memory, sizeAt, signal } = this.#options
    const bytes = sizeAt(this.#offset)
    const release = await memory.acquire(bytes, signal)
    this.#releases.add(release)
    const piece = { index: this.#index, offset: this.#offset, bytes: Buffer.allocUnsafeSlow(bytes) }
    return { piece, filled: 0, release }
  }

  #free(release: () => void): void {
    this.#releases.delete(release)
    release()
  }

  #rethrow(): void {
    if (this.#failure) throw this.#failure.error
  }
}
