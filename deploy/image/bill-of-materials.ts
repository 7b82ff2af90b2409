/** What is in an image, in CycloneDX: the modules as npm lists them, Node.js, and Debian's packages. */
import { createHash } from 'node:crypto'
import type { Architecture } from './file-list.ts'
import type { Contents } from './root-folder.ts'

export interface BillOptions extends Contents {
  readonly architecture: Architecture
  readonly version: string
  readonly created: Date
  /** Debian's, such as trixie. */
  readonly release: string
}

/** JSON, the same for the same contents. */
export function billOfMaterials(options: BillOptions): string {
  const { modules, packages, architecture, created, version } = options
  const { components, metadata, dependencies, ...rest } = modules
  const component = {
    ...metadata.component,
    type: 'container',
    name: 'stowage',
    version,
    properties: [{ name: 'oci:platform', value: `linux/${architecture}` }],
  }
  const body = {
    ...rest,
    metadata: { ...metadata, timestamp: created.toISOString(), component },
    components: [
      ...components.map((one) => (one.name.startsWith('node-linux-') ? asRuntime(one) : one)),
      ...packages.map((one) => debianComponent(one, options)),
    ],
    dependencies,
  }
  return JSON.stringify(
    { ...body, serialNumber: `urn:uuid:${uuidOf({ ...body, serialNumber: '' })}` },
    null,
    2,
  )
}

/** The package is only how Node.js came: what is known of its weaknesses is known under its own name. */
function asRuntime(component: Record<string, unknown>): Record<string, unknown> {
  const version = String(component['version'])
  return { ...component, type: 'platform', cpe: `cpe:2.3:a:nodejs:node.js:${version}:*:*:*:*:*:*:*` }
}

function debianComponent(one: Contents['packages'][number], { architecture, release }: BillOptions) {
  const { name, version, source, maintainer, licence, sha256 } = one
  const purl = `pkg:deb/debian/${encodeURIComponent(name)}@${encodeURIComponent(version)}?arch=${architecture}&distro=${release}`
  return {
    'bom-ref': purl,
    type: 'library',
    supplier: { name: maintainer },
    name,
    version,
    licenses: [{ expression: licence }],
    hashes: [{ alg: 'SHA-256', content: sha256 }],
    purl,
    properties: [{ name: 'debian:source', value: source }],
  }
}

/** A UUID (version 8, RFC 9562) of what it names. */
function uuidOf(value: object): string {
  const hash = createHash('sha256').update(JSON.stringify(value)).digest('hex')
  return [
    hash.slice(0, 8),
    hash.slice(8, 12),
    `8${hash.slice(13, 16)}`,
    `8${hash.slice(17, 20)}`,
    hash.slice(20, 32),
  ].join('-')
}
