/** A real nginx with the configuration that docs/nginx.md recommends: all of it is in one folder, on a free port. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { CertificateFiles } from '../../src/http/certificates.ts'
import { freePort, start, type Running } from '../support/processes.ts'

export interface NginxOptions {
  /** A folder of its own, empty; whoever made it removes it. */
  readonly folder: string
  /** host:port of the registry. */
  readonly upstream: string
  readonly certificate: CertificateFiles
  /** Lines of the recommended configuration, and what is tried instead. */
  readonly changes?: Readonly<Record<string, string>>
}

export interface Nginx extends Running {
  /** host:port */
  readonly address: string
  /** A line for each request: the protocol that it came by, and what sent it. */
  requests(): Promise<string[]>
}

export async function startNginx({ folder, upstream, certificate, changes }: NginxOptions): Promise<Nginx> {
  const address = `127.0.0.1:${await freePort()}`
  const site = replaceEach(await recommendedConfiguration(), {
    'server 127.0.0.1:5000;': `server ${upstream};`,
    'listen 443 ssl http2;': `listen ${address} ssl http2;`,
    '/etc/nginx/registry.crt': certificate.certificate,
    '/etc/nginx/registry.key': certificate.key,
    ...changes,
  })
  const configuration = join(folder, 'nginx.conf')
  await writeFile(configuration, around(site, folder))
  await mkdir(join(folder, 'temp'))
  // -e: else the log of the system's own nginx is opened before the configuration is read.
  const running = await start('/usr/sbin/nginx', ['-p', folder, '-c', configuration, '-e', 'stderr'], {
    ready: /using the "\w+" event method/,
  })
  const requests = async () => (await readFile(join(folder, 'access.log'), 'utf8')).trimEnd().split('\n')
  return { ...running, address, requests }
}

/** The example of the page, so that what people copy is what was tested. */
async function recommendedConfiguration(): Promise<string> {
  const page = await readFile(fileURLToPath(new URL('../../docs/nginx.md', import.meta.url)), 'utf8')
  const example = /```nginx\n([^]*?)```/.exec(page)?.[1]
  if (example === undefined) throw new Error('docs/nginx.md has no example of a configuration')
  return example
}

function replaceEach(text: string, changes: Readonly<Record<string, string>>): string {
  return Object.entries(changes).reduce((result, [old, changed]) => {
    if (!result.includes(old)) throw new Error(`docs/nginx.md does not say ${old}`)
    return result.replace(old, changed)
  }, text)
}

/** What Debian's nginx.conf has around a site, with every path in the folder, as one process that can be ended by its id. */
function around(site: string, folder: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  return `
daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log stderr notice;
events {}
http {
  log_format protocols '$server_protocol $http_user_agent';
  access_log ${folder}/access.log protocols;
  default_type application/octet-stream;
  ${temporary.map((name) => `${name}_temp_path ${folder}/temp/${name};`).join('\n  ')}
${site}
}
`
}
