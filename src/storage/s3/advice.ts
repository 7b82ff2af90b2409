/** What the settings of a bucket mean for a registry in it, for `check-storage`. Nothing here changes the bucket. */
import {
  GetBucketLifecycleConfigurationCommand,
  GetBucketVersioningCommand,
  type LifecycleRule,
} from '@aws-sdk/client-s3'
import { Expected, openBucket, type Bucket } from './client.ts'
import type { Fault } from './errors.ts'
import type { S3Options } from './options.ts'

type Rules = readonly LifecycleRule[]

/** Sentences a person can act on; none where there is nothing to say. */
export async function adviseOnBucket(options: S3Options): Promise<readonly string[]> {
  const bucket = openBucket(options)
  try {
    const rules = await readRules(bucket)
    const versioning = await readVersioning(bucket)
    return [
      ...(rules instanceof Unknown ? [rules.message] : adviseOnRules(rules, bucket.full(''))),
      ...(versioning instanceof Unknown ? [versioning.message] : []),
      ...(versioning === 'Enabled'
        ? adviseOnVersions(rules instanceof Unknown ? [] : rules, bucket.full(''))
        : []),
    ]
  } finally {
    bucket.close()
  }
}

/** About what is below `prefix` (ends with "/", or is empty for the whole bucket). */
export function adviseOnRules(rules: Rules, prefix: string): string[] {
  const active = rules.filter(({ Status }) => Status === 'Enabled')
  const aborting = active.some((rule) => rule.AbortIncompleteMultipartUpload && isForAll(rule, prefix))
  const deleting = active.filter((rule) => isDeleting(rule) && mayMeet(rule, prefix))
  return [
    ...(aborting
      ? []
      : [
          'No lifecycle rule aborts unfinished multipart uploads. What a crash leaves of them is paid for without ' +
            'being seen: add a rule with AbortIncompleteMultipartUpload after 7 days (MinIO does it by itself).',
        ]),
    ...deleting.map(
      ({ ID }) =>
        `The lifecycle rule ${JSON.stringify(ID ?? '')} deletes objects by their age. It takes layers out of images ` +
        'that are in use: leave this prefix out of it, and let the registry remove what nobody needs.',
    ),
  ]
}

/** About a bucket whose versioning is enabled. */
export function adviseOnVersions(rules: Rules, prefix: string): string[] {
  const active = rules.filter(({ Status }) => Status === 'Enabled')
  if (active.some((rule) => rule.NoncurrentVersionExpiration && isForAll(rule, prefix))) return []
  return [
    'The bucket keeps versions, and no lifecycle rule ends them. Whatever is deleted goes on being paid for, and MinIO ' +
      'goes on listing its folders: add a rule with NoncurrentVersionExpiration, or use a bucket without versions.',
  ]
}

const prefixOf = ({ Filter, Prefix }: LifecycleRule) => Filter?.And?.Prefix ?? Filter?.Prefix ?? Prefix ?? ''

function isLimited({ Filter }: LifecycleRule): boolean {
  const { And, Tag, ObjectSizeGreaterThan, ObjectSizeLessThan } = Filter ?? {}
  const limits = [Tag, ObjectSizeGreaterThan, ObjectSizeLessThan]
  limits.push(And?.ObjectSizeGreaterThan, And?.ObjectSizeLessThan, And?.Tags?.[0])
  return limits.some((limit) => limit !== undefined)
}

const isForAll = (rule: LifecycleRule, prefix: string) =>
  !isLimited(rule) && prefix.startsWith(prefixOf(rule))

const mayMeet = (rule: LifecycleRule, prefix: string) =>
  prefix.startsWith(prefixOf(rule)) || prefixOf(rule).startsWith(prefix)

const isDeleting = ({ Expiration }: LifecycleRule) =>
  Expiration?.Days !== undefined || Expiration?.Date !== undefined

/** What could not be found out, and why. */
class Unknown {
  readonly message: string
  constructor(what: string, right: string, { code, message }: Fault) {
    const reason = message === '' || message === code ? code : `${code}: ${message}`
    this.message = `Whether the ${what} of the bucket suit a registry could not be found out (${reason}). Look yourself, or allow ${right}.`
  }
}

async function readRules(bucket: Bucket): Promise<Rules | Unknown> {
  try {
    const command = () => new GetBucketLifecycleConfigurationCommand({ Bucket: bucket.name })
    const { output } = await bucket.send(command, { key: '', expects: () => true })
    return output.Rules ?? []
  } catch (error) {
    if (!(error instanceof Expected)) throw error
    if (error.fault.code === 'NoSuchLifecycleConfiguration') return []
    return new Unknown('lifecycle rules', 's3:GetLifecycleConfiguration', error.fault)
  }
}

async function readVersioning(bucket: Bucket): Promise<string | undefined | Unknown> {
  try {
    const command = () => new GetBucketVersioningCommand({ Bucket: bucket.name })
    const { output } = await bucket.send(command, { key: '', expects: () => true })
    return output.Status
  } catch (error) {
    if (!(error instanceof Expected)) throw error
    return new Unknown('versioning settings', 's3:GetBucketVersioning', error.fault)
  }
}
