/** Tars of plain files, in memory and without anything that changes from run to run. */
export interface TarFile {
  /** At most 100 bytes. */
  readonly name: string
  readonly content: Buffer
}

const blockBytes = 512

/** POSIX.1-1988 "ustar": a header block and the padded content for each file, and two empty blocks. */
export function buildTar(files: readonly TarFile[]): Buffer {
  const blocks = files.flatMap(({ name, content }) => [
    headerOf(name, content.length),
    content,
    Buffer.alloc(-content.length & (blockBytes - 1)),
  ])
  return Buffer.concat([...blocks, Buffer.alloc(2 * blockBytes)])
}

function headerOf(name: string, size: number): Buffer {
  const header = Buffer.alloc(blockBytes)
  if (Buffer.byteLength(name) > 100) throw new RangeError(`too long for a name in a tar: ${name}`)
  const octal = (value: number, digits: number) => `${value.toString(8).padStart(digits, '0')}\0`
  header.write(name, 0)
  header.write(octal(0o644, 7), 100)
  header.write(octal(0, 7), 108) // owner
  header.write(octal(0, 7), 116) // group
  header.write(octal(size, 11), 124)
  header.write(octal(0, 11), 136) // time of change
  header.write(' '.repeat(8), 148) // the checksum counts as spaces
  header.write('0', 156) // a plain file
  header.write('ustar\x0000', 257)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${octal(sum, 6)} `, 148)
  return header
}
