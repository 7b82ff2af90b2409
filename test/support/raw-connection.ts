import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

/** A connection on which a test says what no HTTP client would. */
export interface RawConnection extends Disposable {
  readonly socket: Socket
  write(bytes: string | Buffer): void
  /** Waits until what came so far matches. */
  expect(pattern: RegExp): Promise<string>
  /** All that came, once the server has ended the connection. */
  readonly ended: Promise<string>
}

/** Close it with `using`: as a client that vanishes, without a word. */
export async function openRaw(port: number): Promise<RawConnection> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  let received = ''
  socket.on('data', (chunk: Buffer) => (received += chunk.toString('latin1')))
  // Not once(), which a reset would make fail: that is one of the ways in which a server ends a connection.
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  return {
    socket,
    write: (bytes) => void socket.write(bytes, 'latin1'),
    async expect(pattern) {
      while (!pattern.test(received)) {
        if (socket.destroyed) throw new Error(`the connection ended after ${JSON.stringify(received)}`)
        await Promise.race([once(socket, 'data'), closed])
      }
      return received
    },
    ended: closed.then(() => received),
    [Symbol.dispose]: () => void socket.resetAndDestroy(),
  }
}

/** What comes from now on until the server ends the connection, be it by a reset. */
export async function receiveAll(socket: Socket): Promise<string> {
  let received = ''
  socket.on('error', () => undefined).on('data', (chunk: Buffer) => (received += chunk.toString('latin1')))
  if (!socket.closed) await new Promise<void>((resolve) => socket.once('close', () => resolve()))
  return received
}

/** What the server says to these bytes until it ends the connection. */
export async function sayRaw(port: number, bytes: string | Buffer): Promise<string> {
  using connection = await openRaw(port)
  connection.write(bytes)
  return await connection.ended
}
