/** Why a key cannot be stored, or undefined. Every driver refuses the same keys, so that data can move between them. */
export function keyFault(key: string): string | undefined {
  if (key.length > 1024) return 'longer than 1,024 bytes'
  if (!/^[\x21-\x7e]+$/.test(key)) return 'has characters other than printable ASCII'
  if (key.split('/').some((element) => element === '' || element === '.' || element === '..')) {
    return 'has an empty, "." or ".." element'
  }
  return undefined
}

export function checkKey(key: string): void {
  const fault = keyFault(key)
  if (fault) throw new Error(`not a storage key: ${JSON.stringify(key.slice(0, 200))} ${fault}`)
}
