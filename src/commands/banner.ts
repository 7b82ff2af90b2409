import { isIP } from 'node:net'
import type { Policy } from '../auth/access.ts'
import { isLoopback } from './loopback.ts'

export interface BannerFacts {
  readonly version: string
  /** The host as it was asked for; empty is every address. */
  readonly host: string
  /** The port that is really listened on. */
  readonly port: number
  /** Where it speaks HTTPS: a name that its certificate is for, if it has one. */
  readonly tls?: { readonly name: string | undefined } | undefined
  readonly policy: Policy
  /** See describeStorage. */
  readonly storage: string
}

/** What `serve` says once it listens: where, on what, and how a first image comes in and out. */
export function bannerText({ version, host, port, tls, policy, storage }: BannerFacts): string {
  const isEverywhere = ['', '0.0.0.0', '::'].includes(host)
  const isLocal = isLoopback(host)
  // Docker speaks plain HTTP to `localhost` and to loopback addresses without being told to.
  const reachable = isEverywhere || isLocal ? 'localhost' : host
  const registry = authority(tls?.name ?? reachable, port)
  const [scheme, podman, crane] = tls ? ['https', '', ''] : ['http', ' --tls-verify=false', ' --insecure']
  const login = (line: string) => (policy.hasUsers ? [`  ${line}`] : [])
  const lines = [
    `stowage ${version} listening on ${scheme}://${authority(host || '0.0.0.0', port)}, storage ${storage}`,
    ...(storage === 'memory' ? ['What is pushed is kept in memory: it is gone when this process ends.'] : []),
    ...(isLocal ? [] : [...openness(policy), ...exposure(policy, tls !== undefined)]),
    '',
    'docker:',
    ...login(`docker login ${registry}`),
    `  docker tag alpine ${registry}/alpine && docker push ${registry}/alpine`,
    `  docker pull ${registry}/alpine`,
    'podman:',
    ...login(`podman login${podman} ${registry}`),
    `  podman push${podman} alpine ${registry}/alpine`,
    `  podman pull${podman} ${registry}/alpine`,
    'crane:',
    ...login(`crane auth login${crane} -u USER --password-stdin ${registry}`),
    `  crane copy${crane} alpine ${registry}/alpine`,
    `  crane pull${crane} ${registry}/alpine alpine.tar`,
    '',
  ]
  return lines.join('\n')
}

function openness({ anonymous }: Policy): string[] {
  if (anonymous === 'none') return []
  const what = anonymous === 'pull' ? 'pull' : 'push and delete'
  return [
    `Nobody is asked who they are${anonymous === 'pull' ? ' to pull' : ''}: whoever reaches this address can ${what}.`,
  ]
}

function exposure({ hasUsers }: Policy, isEncrypted: boolean): string[] {
  if (!hasUsers || isEncrypted) return []
  return [
    'Passwords are sent here unencrypted: give --tls-cert and --tls-key, or put a proxy in front that does.',
  ]
}

function authority(host: string, port: number): string {
  return `${isIP(host) === 6 ? `[${host}]` : host}:${port}`
}
