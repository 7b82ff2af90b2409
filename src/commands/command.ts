import type { Command as ParsedCommand } from 'commander'
import {
  addSettings,
  readSettings,
  type CheckTogether,
  type Settings,
  type Sources,
  type ValuesOf,
} from '../settings.ts'

export interface CommandContext {
  readonly version: string
  /** Aborted at the first SIGTERM or SIGINT: end in order, and soon. */
  readonly stop: AbortSignal
  /** A line, or several, for whoever started the command. */
  readonly print: (text: string) => void
}

export interface CommandDefinition<S extends Settings> {
  readonly name: string
  readonly summary: string
  readonly description: string
  readonly settings: S
  readonly checkTogether?: CheckTogether<S>
  readonly examples: readonly string[]
  /**
   * Imports what it needs by itself, so that no command pays for another's libraries; returns the exit code.
   * @throws CommandFailed where a sentence says it all
   */
  run(values: ValuesOf<S>, context: CommandContext): Promise<number>
}

/** A command as main.ts knows it, whatever its settings are. */
export interface Command {
  readonly name: string
  readonly settings: Settings
  /** Describes itself, its settings and its examples to the parser. */
  declare(parser: ParsedCommand): void
  /** @throws SettingsRefused before anything was started, and what `run` throws */
  start(parsed: ParsedCommand, sources: Sources, context: CommandContext): Promise<number>
}

/** Ends a command with exit code 1 and its message, a sentence a person can act on. */
export class CommandFailed extends Error {
  override readonly name = 'CommandFailed'
}

export function defineCommand<S extends Settings>(definition: CommandDefinition<S>): Command {
  const { name, settings, checkTogether, examples } = definition
  return {
    name,
    settings,
    declare(parser) {
      parser.summary(definition.summary).description(definition.description)
      parser.allowExcessArguments(false)
      addSettings(parser, settings)
      parser.addHelpText('after', `\nExamples:\n${examples.map((example) => `  ${example}`).join('\n')}`)
    },
    async start(parsed, sources, context) {
      return definition.run(await readSettings(parsed, settings, sources, checkTogether), context)
    },
  }
}
