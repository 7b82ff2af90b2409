#!/usr/bin/env node
// Plain JavaScript that old versions of Node can read, so that they get a sentence and not a syntax error.
import { existsSync, readFileSync } from 'fs'

const here = (path) => new URL(path, import.meta.url)
const needed = JSON.parse(readFileSync(here('../package.json'), 'utf8')).engines.node.replace('>=', '')

if (isOlder(process.versions.node, needed)) {
  console.error(`stowage needs Node.js ${needed} or newer, and this is ${process.versions.node}.`)
  process.exitCode = 1
} else {
  // A checkout runs its source, whatever was built from it earlier; a package has only what was built.
  const source = here('../src/main.ts')
  import(existsSync(source) ? source.href : here('../dist/main.js').href).catch((error) => {
    console.error(error)
    process.exitCode = 1
  })
}

function isOlder(version, than) {
  const [major, minor] = version.split('.').map(Number)
  const [neededMajor, neededMinor] = than.split('.').map(Number)
  return major < neededMajor || (major === neededMajor && minor < (neededMinor || 0))
}
