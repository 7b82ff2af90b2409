import { describe, expect, test } from '@jest/globals'
import { bannerText } from '../../../src/commands/banner.ts'

const policy = { anonymous: 'full', hasUsers: false } as const
const facts = { version: '1.2.3', host: '127.0.0.1', port: 5000, storage: 'filesystem ./data', policy }

describe('what serve says once it listens', () => {
  test('where it is and what it stores in', () => {
    expect(bannerText(facts).split('\n')[0]).toBe(
      'stowage 1.2.3 listening on http://127.0.0.1:5000, storage filesystem ./data',
    )
  })

  test.each([
    ['127.0.0.1', 'http://127.0.0.1:5000', 'localhost:5000', false],
    ['localhost', 'http://localhost:5000', 'localhost:5000', false],
    ['::1', 'http://[::1]:5000', 'localhost:5000', false],
    ['', 'http://0.0.0.0:5000', 'localhost:5000', true],
    ['0.0.0.0', 'http://0.0.0.0:5000', 'localhost:5000', true],
    ['::', 'http://[::]:5000', 'localhost:5000', true],
    ['10.1.2.3', 'http://10.1.2.3:5000', '10.1.2.3:5000', true],
    ['registry.example.org', 'http://registry.example.org:5000', 'registry.example.org:5000', true],
  ])(
    'on %j images are pushed by a name that Docker takes, and the open door is named',
    (host, url, name, isOpen) => {
      const text = bannerText({ ...facts, host })
      expect(text).toContain(`listening on ${url},`)
      expect(text).toContain(`docker push ${name}/alpine`)
      expect(text.includes('whoever reaches this address can push and delete')).toBe(isOpen)
    },
  )

  test('with a certificate it is HTTPS, by the name that the certificate is for', () => {
    const text = bannerText({ ...facts, tls: { name: 'registry.example.org' } })
    expect(text).toContain('listening on https://127.0.0.1:5000,')
    expect(text).toContain('docker push registry.example.org:5000/alpine')
    expect(text).toContain('podman push alpine registry.example.org:5000/alpine')
    expect(text).toContain('crane copy alpine registry.example.org:5000/alpine')
    expect(bannerText({ ...facts, tls: { name: undefined } })).toContain('docker push localhost:5000/alpine')
  })

  const exposed = { ...facts, host: '' }
  const users = { anonymous: 'none', hasUsers: true } as const

  test('where there are users, each client is told how to log in', () => {
    const text = bannerText({ ...facts, policy: users })
    expect(text).toContain('  docker login localhost:5000\n')
    expect(text).toContain('  podman login --tls-verify=false localhost:5000\n')
    expect(text).toContain('  crane auth login --insecure -u USER --password-stdin localhost:5000\n')
    expect(bannerText(facts)).not.toContain('login')
  })

  test('who may do something without being asked is said where others reach it', () => {
    expect(bannerText({ ...exposed, policy: users })).not.toContain('Nobody is asked')
    expect(bannerText({ ...exposed, policy: { ...users, anonymous: 'pull' } })).toContain(
      'Nobody is asked who they are to pull: whoever reaches this address can pull.\n',
    )
    expect(bannerText({ ...exposed, policy: { ...users, anonymous: 'full' } })).toContain(
      'Nobody is asked who they are: whoever reaches this address can push and delete.\n',
    )
  })

  test('passwords that others could read on the way are warned of', () => {
    const warning = 'Passwords are sent here unencrypted'
    expect(bannerText({ ...exposed, policy: users })).toContain(warning)
    expect(bannerText({ ...exposed, policy: users, tls: { name: 'a.example' } })).not.toContain(warning)
    expect(bannerText({ ...facts, policy: users })).not.toContain(warning)
    expect(bannerText(exposed)).not.toContain(warning)
  })

  test('memory is said to be forgetful', () => {
    expect(bannerText({ ...facts, storage: 'memory' })).toContain('gone when this process ends')
    expect(bannerText(facts)).not.toContain('gone')
  })
})
