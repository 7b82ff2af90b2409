/** How deploy/Dockerfile is read where there is no container engine. */
import { describe, expect, test } from '@jest/globals'
import { readFileSync } from 'node:fs'
import { readDockerfile } from '../../../deploy/image/dockerfile.ts'
import { architectures, readFileList } from '../../../deploy/image/file-list.ts'

const read = (...lines: string[]) => readDockerfile(lines.join('\n'), { NAME: 'value', TARGETARCH: 'arm64' })

describe('a Dockerfile', () => {
  test('gives settings as the image specification has them', () => {
    const { settings } = read(
      'FROM scratch',
      'ARG NAME',
      'ENV A=1 \\',
      '    # a comment between',
      '    B="two words"',
      'ENV C=${NAME}',
      'LABEL title="The \\"image\\"" version=${NAME}',
      'USER 1:2',
      'WORKDIR /work',
      'VOLUME /data',
      'EXPOSE 80 443',
      'ENTRYPOINT ["/bin/a", "b c"]',
      'CMD ["d"]',
    )
    expect(settings).toEqual({
      Env: ['A=1', 'B=two words', 'C=value'],
      Labels: { title: 'The "image"', version: 'value' },
      User: '1:2',
      WorkingDir: '/work',
      Volumes: { '/data': {} },
      ExposedPorts: { '80/tcp': {}, '443/tcp': {} },
      Entrypoint: ['/bin/a', 'b c'],
      Cmd: ['d'],
    })
  })

  test('makes a layer of each COPY, in their order', () => {
    const { copies } = read(
      'FROM scratch',
      'ARG TARGETARCH',
      'COPY ${TARGETARCH}/a/ /',
      'COPY --chown=7:8 b /c/d/',
    )
    expect(copies).toEqual([
      { from: 'arm64/a', to: '', uid: 0, gid: 0, instruction: 'COPY arm64/a/ /' },
      { from: 'b', to: 'c/d', uid: 7, gid: 8, instruction: 'COPY --chown=7:8 b /c/d/' },
    ])
  })

  test.each([
    ['another base', ['FROM debian'], /from scratch, not from debian/],
    ['something to run', ['FROM scratch', 'RUN true'], /RUN cannot be done without an engine/],
    ['an argument that is not declared', ['FROM scratch', 'USER ${NAME}'], /\$\{NAME\} is not known/],
    ['an argument without a value', ['FROM scratch', 'ARG X', 'USER ${X}'], /\$\{X\} is not known/],
    ['an owner by name', ['FROM scratch', 'COPY --chown=me a /'], /not understood: COPY/],
    ['several sources', ['FROM scratch', 'COPY a b /'], /not understood: COPY/],
  ])('is refused for %s', (_what, lines, message) => {
    expect(() => read(...lines)).toThrow(message)
  })
})

test('the list of files is read for every architecture', async () => {
  for (const architecture of architectures) {
    expect(JSON.stringify(await readFileList(architecture))).not.toContain('${')
  }
  const text = readFileSync(new URL('../../../deploy/Dockerfile', import.meta.url), 'utf8')
  const values = { TARGETARCH: 'amd64', VERSION: '1', REVISION: '2', CREATED: '3' }
  expect(readDockerfile(text, values).copies.map(({ from }) => from)).toEqual([
    'amd64/base',
    'amd64/modules',
    'amd64/application',
    'amd64/data',
  ])
})
