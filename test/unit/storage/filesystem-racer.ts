/** What filesystem-processes.test.ts runs as processes of their own: `<root> create|churn|linger <count>`. */
import { PreconditionFailed, type Driver } from '../../../src/storage/driver.ts'
import { filesystemDriver } from '../../../src/storage/filesystem.ts'

/** Few folders, so that creating and removing meet in them. */
const folderOf = (index: number) => `race/${index % 3}/${index % 7}/`

/** Prints which of the objects it created itself. */
async function create(driver: Driver, count: number): Promise<void> {
  const created: number[] = []
  for (let index = 0; index < count; index++) {
    try {
      await driver.write(`${folderOf(index)}object-${index}`, Buffer.from(`${process.pid}`), {
        ifAbsent: true,
      })
      created.push(index)
    } catch (error) {
      if (!(error instanceof PreconditionFailed)) throw error
      const bytes = await driver.read(`${folderOf(index)}object-${index}`)
      if (!bytes?.length) throw new Error(`object ${index} exists, but cannot be read`, { cause: error })
    }
  }
  console.log(JSON.stringify(created))
}

/** Puts objects of its own beside those of others, and removes them again. */
async function churn(driver: Driver, count: number): Promise<void> {
  let rounds = 0
  for (let index = 0; index < count; index++) {
    const key = `${folderOf(count - index)}churn-${process.pid}`
    await driver.write(key, Buffer.from('x'))
    await driver.remove([key])
    rounds++
  }
  console.log(JSON.stringify(rounds))
}

/** Is in the middle of everything when it says that it is ready. */
async function linger(driver: Driver): Promise<void> {
  await driver.write('stored', Buffer.from('answered before the end'))
  const upload = await driver.upload('uploads/a', {})
  const append = await driver.append('appends/', 0)
  for (const target of [upload, append]) {
    for (let chunk = 0; chunk < 5; chunk++) await target.write(Buffer.alloc(1_000_000))
  }
  console.log('ready')
  for (;;) {
    const slow = await driver.upload('uploads/b', {})
    await slow.write(Buffer.alloc(5_000_000))
    await slow.abort()
  }
}

const [root = '', role, count] = process.argv.slice(2)
const driver = await filesystemDriver({ root })
if (role === 'create') await create(driver, Number(count))
else if (role === 'churn') await churn(driver, Number(count))
else await linger(driver)
