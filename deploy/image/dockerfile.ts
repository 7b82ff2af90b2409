/** deploy/Dockerfile as data: what a container engine would make of its instructions, without one. */
import {
  DockerfileParser,
  type Instruction,
  ModifiableInstruction,
  PropertyInstruction,
} from 'dockerfile-ast'
import { z } from 'zod'

/** "config" of an image's configuration (image-spec, config.md). */
export interface ImageSettings {
  User?: string
  WorkingDir?: string
  Env: string[]
  Labels: Record<string, string>
  ExposedPorts: Record<string, object>
  Volumes: Record<string, object>
  Entrypoint: string[]
  Cmd: string[]
}

export interface Copy {
  /** A folder of the build context. */
  readonly from: string
  /** Below the root, without a slash at its ends; '' is the root itself. */
  readonly to: string
  readonly uid: number
  readonly gid: number
  readonly instruction: string
}

export interface ImagePlan {
  readonly settings: ImageSettings
  /** Each becomes a layer, in this order. */
  readonly copies: readonly Copy[]
}

/**
 * @param values of build arguments, TARGETARCH too
 * @throws where there is an instruction that is not known here, or an argument that is not given
 */
export function readDockerfile(text: string, values: Readonly<Record<string, string>>): ImagePlan {
  const copies: Copy[] = []
  const settings: ImageSettings = {
    Env: [],
    Labels: {},
    ExposedPorts: {},
    Volumes: {},
    Entrypoint: [],
    Cmd: [],
  }
  const declared = new Set<string>()
  for (const instruction of DockerfileParser.parse(text).getInstructions()) {
    const expand = (part: string) => expandArguments(part, declared, values)
    const words = instruction.getArguments().map((argument) => expand(argument.getValue()))
    const [first = ''] = words
    switch (instruction.getKeyword()) {
      case 'FROM':
        if (first !== 'scratch') throw new Error(`the image is from scratch, not from ${first}`)
        break
      case 'ARG':
        declared.add(first)
        break
      case 'COPY':
        copies.push(readCopy(instruction, words))
        break
      default:
        applySetting(settings, instruction, words, expand)
    }
  }
  return { settings, copies }
}

function applySetting(
  settings: ImageSettings,
  instruction: Instruction,
  words: readonly string[],
  expand: (part: string) => string,
): void {
  const [first = ''] = words
  const apply: Readonly<Record<string, () => void>> = {
    ENV: () => settings.Env.push(...readProperties(instruction, expand).map((pair) => pair.join('='))),
    LABEL: () => Object.assign(settings.Labels, Object.fromEntries(readProperties(instruction, expand))),
    USER: () => (settings.User = first),
    WORKDIR: () => (settings.WorkingDir = first),
    VOLUME: () => (settings.Volumes[first] = {}),
    EXPOSE: () => words.forEach((port) => (settings.ExposedPorts[`${port}/tcp`] = {})),
    ENTRYPOINT: () => (settings.Entrypoint = readList(instruction)),
    CMD: () => (settings.Cmd = readList(instruction)),
  }
  const known = apply[instruction.getKeyword()]
  if (!known)
    throw new Error(`deploy/Dockerfile: ${instruction.getKeyword()} cannot be done without an engine`)
  known()
}

function readCopy(instruction: Instruction, words: readonly string[]): Copy {
  const [from, to] = words.map((path) => path.replace(/^\/+|\/+$/g, ''))
  const flags = instruction instanceof ModifiableInstruction ? instruction.getFlags() : []
  const owners = flags.map((flag) => /^--chown=(\d+):(\d+)$/.exec(flag.toString()))
  if (from === undefined || to === undefined || words.length > 2 || owners.includes(null)) {
    throw new Error(`deploy/Dockerfile: not understood: ${instruction.toString()}`)
  }
  const [, uid = 0, gid = 0] = owners[0] ?? []
  return { from, to, uid: Number(uid), gid: Number(gid), instruction: ['COPY', ...flags, ...words].join(' ') }
}

function readProperties(instruction: Instruction, expand: (part: string) => string): [string, string][] {
  if (!(instruction instanceof PropertyInstruction)) return []
  return instruction
    .getProperties()
    .map((property) => [property.getName(), expand(property.getValue() ?? '')])
}

/** The form with brackets, which needs no shell. */
function readList(instruction: Instruction): string[] {
  return z.array(z.string()).parse(JSON.parse(instruction.getArgumentsContent() ?? ''))
}

function expandArguments(
  part: string,
  declared: ReadonlySet<string>,
  values: Readonly<Record<string, string>>,
): string {
  return part.replace(/\$\{(\w+)\}/g, (_, name: string) => {
    const value = values[name]
    if (value === undefined || !declared.has(name))
      throw new Error(`deploy/Dockerfile: \${${name}} is not known`)
    return value
  })
}
