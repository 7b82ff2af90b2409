import { test, expect } from '@jest/globals'
import { createServer } from 'node:http'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort, run, runOk, start } from '../support/processes.ts'

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

test('a process is ready when its output says so, and gone once it is stopped', async () => {
  const running = await start('/bin/sh', ['-c', 'echo ready; exec sleep 60'], { ready: /ready/ })
  expect(isAlive(running.pid)).toBe(true)
  expect(await running.stop()).toEqual({ code: null, signal: 'SIGTERM' })
  expect(isAlive(running.pid)).toBe(false)
})

test('a process is ready when its URL answers', async () => {
  const port = await freePort()
  const script = `require('node:http').createServer((_, r) => r.end('x')).listen(${port}, '127.0.0.1')`
  const running = await start(process.execPath, ['-e', script], { ready: `http://127.0.0.1:${port}/` })
  const response = await fetch(`http://127.0.0.1:${port}/`)
  expect(await response.text()).toBe('x')
  await running.stop()
})

test('one that ends before it is ready is an error that shows what it wrote', async () => {
  const failing = start('/bin/sh', ['-c', 'echo no such thing >&2; exit 3'], { ready: /ready/ })
  await expect(failing).rejects.toThrow(/ended \(3\)[^]*no such thing/)
})

test('one that never gets ready is an error, and gone', async () => {
  const script = 'echo pid $$; exec sleep 60'
  const failing = start('/bin/sh', ['-c', script], { ready: /ready/, timeoutMs: 200 })
  const message = await failing.then(
    () => '',
    (error: Error) => error.message,
  )
  expect(message).toContain('was not ready in time')
  expect(isAlive(Number(/pid (\d+)/.exec(message)?.[1]))).toBe(false)
})

test('one that ignores SIGTERM is killed after its grace', async () => {
  const script = `trap '' TERM; echo ready; while :; do sleep 0.05; done`
  const running = await start('/bin/sh', ['-c', script], { ready: /ready/ })
  expect((await running.stop(100)).signal).toBe('SIGKILL')
})

test('a command gets its input, and its output and code come back', async () => {
  const result = await run('/bin/sh', ['-c', 'cat; echo oops >&2; exit 7'], { input: 'abc' })
  expect(result).toEqual({ code: 7, signal: null, stdout: Buffer.from('abc'), stderr: 'oops\n' })
  await expect(runOk('/bin/sh', ['-c', 'echo oops >&2; exit 7'])).rejects.toThrow(/\(7\)[^]*oops/)
})

test('a free port can be listened on', async () => {
  const server = createServer().listen(await freePort(), '127.0.0.1')
  await once(server, 'listening')
  server.close()
  await once(server, 'close')
})

test('what a killed test run left running is killed too', async () => {
  const module = new URL('../support/processes.ts', import.meta.url).href
  const script = `const { start } = await import(${JSON.stringify(module)})
    const child = await start('/bin/sh', ['-c', 'echo ready; exec sleep 60'], { ready: /ready/ })
    console.log('child ' + child.pid + ' ready')
    setInterval(() => {}, 1000)`
  const parent = await start(process.execPath, ['--input-type=module', '-e', script], {
    ready: /child \d+ ready/,
  })
  const pid = Number(/child (\d+) ready/.exec(parent.output())?.[1])
  expect(isAlive(pid)).toBe(true)
  parent.kill('SIGKILL')
  await parent.exited
  for (let i = 0; i < 500 && isAlive(pid); i++) await delay(20)
  expect(isAlive(pid)).toBe(false)
})
