/** argv -> one command. The only place that ends the process and that listens to signals. */
import { readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { inspect } from 'node:util'
import { Command as Parser, CommanderError } from 'commander'
import type { Command, CommandContext } from './commands/command.ts'
import { SettingsRefused } from './settings.ts'

/** Exit codes: 0 done, 1 failed, 2 refused for what was asked. */
const failed = 1
const refused = 2

const settingsHelp = `
Every setting of a command is a flag (--s3-bucket images), a variable (STOWAGE_S3_BUCKET=images), or a key of the
YAML or JSON file that --config names (s3Bucket: images). A flag goes before a variable, a variable before the file.
What is not understood is refused at the start. \`stowage help serve\` lists the settings of serve, for example.`

process.exit(await main(process.argv.slice(2)))

async function main(args: readonly string[]): Promise<number> {
  // A reader that had enough (`| head`) is no failure.
  process.stdout.on('error', (error: NodeJS.ErrnoException) =>
    process.exit(error.code === 'EPIPE' ? 0 : failed),
  )
  const commands = await loadCommands()
  const known = new Set(commands.flatMap(({ settings }) => Object.keys(settings)))
  const version = readVersion()
  const program = createProgram(version)
  const outcome = { name: '', code: 0 }
  for (const command of commands) {
    const parser = program.command(command.name)
    command.declare(parser)
    parser.action(async () => {
      outcome.name = ` ${command.name}`
      const context: CommandContext = { version, stop: untilSignal(), print }
      outcome.code = await command.start(parser, { known, env: process.env }, context)
    })
  }
  try {
    await program.parseAsync(args, { from: 'user' })
    return outcome.code
  } catch (error) {
    return explain(error, outcome.name)
  }
}

/** What they are called and which settings they have; what they need to run they import themselves. */
async function loadCommands(): Promise<readonly Command[]> {
  const [{ serveCommand }, { checkStorageCommand }] = await Promise.all([
    import('./commands/serve.ts'),
    import('./commands/check-storage.ts'),
  ])
  return [serveCommand, checkStorageCommand]
}

function readVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

function createProgram(version: string): Parser {
  return (
    new Parser('stowage')
      .description('An OCI registry on a bucket or a directory.')
      .version(version, '-V, --version', 'print the version')
      .helpOption('-h, --help', 'print this; after a command: its settings')
      .helpCommand('help [command]', 'print what there is to know about a command, and its settings')
      .exitOverride()
      // The value of an unknown flag may be a secret: its name alone is repeated.
      .configureOutput({
        outputError: (text, write) => write(text.replace(/^(error: unknown option '[^'=]*)=[^]*'/, "$1'")),
      })
      .addHelpText('after', settingsHelp)
  )
}

function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** The first signal asks the command to end, the second one does not ask. */
function untilSignal(): AbortSignal {
  const stop = new AbortController()
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (stop.signal.aborted) process.exit(128 + constants.signals[signal])
      stop.abort()
    })
  }
  return stop.signal
}

/** Tells on stderr why the command did not do its work; returns the exit code. */
function explain(error: unknown, name: string): number {
  // The parser has spoken already.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : refused
  if (error instanceof SettingsRefused) {
    const faults = error.faults.map((fault) => `  ${fault}\n`).join('')
    process.stderr.write(`stowage${name}: settings refused\n${faults}See: stowage help${name}\n`)
    return refused
  }
  const isKnown = error instanceof Error && error.name === 'CommandFailed'
  process.stderr.write(isKnown ? `stowage${name}: ${error.message}\n` : `${inspect(error)}\n`)
  return failed
}
