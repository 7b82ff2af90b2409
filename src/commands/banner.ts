import { isIP } from 'node:net'

export interface BannerFacts {
  readonly version: string
  /** The host as it was asked for; empty is every address. */
  readonly host: string
  /** The port that is really listened on. */
  readonly port: number
  /** Where it speaks HTTPS: a name that its certificate is for, if it has one. */
  readonly tls?: { readonly name: string | undefined } | undefined
  /** See describeStorage. */
  readonly storage: string
}

/** What `serve` says once it listens: where, on what, and how a first image comes in and out. */
export function bannerText({ version, host, port, tls, storage }: BannerFacts): string {
  const isEverywhere = ['', '0.0.0.0', '::'].includes(host)
  const isLocal = isLoopback(host)
  // Docker speaks plain HTTP to `localhost` and to loopback addresses without being told to.
  const reachable = isEverywhere || isLocal ? 'localhost' : host
  const registry = authority(tls?.name ?? reachable, port)
  const [scheme, podman, crane] = tls ? ['https', '', ''] : ['http', ' --tls-verify=false', ' --insecure']
  const lines = [
    `stowage ${version} listening on ${scheme}://${authority(host || '0.0.0.0', port)}, storage ${storage}`,
    ...(storage === 'memory' ? ['What is pushed is kept in memory: it is gone when this process ends.'] : []),
    ...(isLocal ? [] : ['Nobody is asked who they are: whoever reaches this address can push and delete.']),
    '',
    'docker:',
    `  docker tag alpine ${registry}/alpine && docker push ${registry}/alpine`,
    `  docker pull ${registry}/alpine`,
    'podman:',
    `  podman push${podman} alpine ${registry}/alpine`,
    `  podman pull${podman} ${registry}/alpine`,
    'crane:',
    `  crane copy${crane} alpine ${registry}/alpine`,
    `  crane pull${crane} ${registry}/alpine alpine.tar`,
    '',
  ]
  return lines.join('\n')
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}

function authority(host: string, port: number): string {
  return `${isIP(host) === 6 ? `[${host}]` : host}:${port}`
}
