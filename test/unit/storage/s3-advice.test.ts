import { describe, expect, test } from '@jest/globals'
import type { LifecycleRule } from '@aws-sdk/client-s3'
import { adviseOnRules, adviseOnVersions } from '../../../src/storage/s3/advice.ts'

const abort: LifecycleRule = { Status: 'Enabled', AbortIncompleteMultipartUpload: { DaysAfterInitiation: 7 } }
const expire: LifecycleRule = { ID: 'old', Status: 'Enabled', Expiration: { Days: 30 } }
const endVersions: LifecycleRule = { Status: 'Enabled', NoncurrentVersionExpiration: { NoncurrentDays: 7 } }
const prefix = 'team/registry/'

const missing = expect.stringContaining('No lifecycle rule aborts')
const deleting = expect.stringContaining('"old" deletes objects')

describe('a rule that aborts unfinished uploads', () => {
  test.each([
    ['of the whole bucket', {}],
    ['of a folder above', { Filter: { Prefix: 'team/' } }],
    ['of this very folder', { Prefix: 'team/registry/' }],
  ])('%s is what is wanted', (_, where) => {
    expect(adviseOnRules([{ ...abort, ...where }], prefix)).toEqual([])
  })

  test.each([
    ['that is disabled', { Status: 'Disabled' as const }],
    ['of another folder', { Filter: { Prefix: 'other/' } }],
    ['of a folder below', { Filter: { Prefix: 'team/registry/docker/' } }],
    ['of tagged objects', { Filter: { Tag: { Key: 'a', Value: 'b' } } }],
    ['of large objects', { Filter: { And: { Prefix: '', ObjectSizeGreaterThan: 5 } } }],
  ])('%s does not do', (_, where) => {
    expect(adviseOnRules([{ ...abort, ...where }], prefix)).toEqual([missing])
  })
})

describe('a rule that deletes by age', () => {
  test.each([
    ['of the whole bucket', {}],
    ['of a folder below', { Filter: { Prefix: 'team/registry/docker/' } }],
    ['of tagged objects', { Filter: { And: { Prefix: 'team/', Tags: [{ Key: 'a', Value: 'b' }] } } }],
  ])('%s is warned of', (_, where) => {
    expect(adviseOnRules([abort, { ...expire, ...where }], prefix)).toEqual([deleting])
  })

  test.each([
    ['that is disabled', { Status: 'Disabled' as const }],
    ['of another folder', { Filter: { Prefix: 'other/' } }],
    ['of delete markers alone', { Expiration: { ExpiredObjectDeleteMarker: true } }],
  ])('%s is none of ours', (_, where) => {
    expect(adviseOnRules([abort, { ...expire, ...where }], prefix)).toEqual([])
  })
})

test('versions need a rule that ends them', () => {
  expect(adviseOnVersions([abort], prefix)).toEqual([expect.stringContaining('The bucket keeps versions')])
  expect(adviseOnVersions([endVersions], prefix)).toEqual([])
})
