// What the tests of the Node package share: real data, published.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import { createRequire } from 'node:module'
import os from 'node:os'
import path from 'node:path'
import { after } from 'node:test'
import { fileURLToPath } from 'node:url'

import agnes from '../../agnes-node/index.mjs'

export { agnes }
export const TOP = fileURLToPath(new URL('../..', import.meta.url))
export const PACKAGE = path.join(TOP, 'agnes-node')
export const DATA = path.join(TOP, 'examples', 'data')
export const [ADA, BOB] = ['ada@example.com', 'bob@example.com']
/** Of the packages that tests use beside ours. */
export const require = createRequire(path.join(PACKAGE, 'index.js'))

/** An empty folder, which goes when the tests of a file are over. */
export function folder() {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'agnes-node-'))
  after(() => fs.rmSync(made, { recursive: true, force: true }))
  return made
}

/** Does something with a data folder, which is closed afterwards. */
export async function withFolder(work, options) {
  const at = folder()
  const db = await agnes.open(path.join(at, 'data'), options)
  try {
    return await work(db, at)
  } finally {
    await db.close()
  }
}

/** Three tables; Ada sees airports, Bob sees nothing. */
export async function publish(db) {
  await db.ingest('aviation', path.join(DATA, 'aviation'))
  await db.ingest('weather', [path.join(DATA, 'weather', 'seattle_weather.tsv')])
  await db.rebuild()
  for (const email of [ADA, BOB]) await db.addUser(email)
  await db.addGroup('pilots')
  await db.addMember('pilots', ADA)
  await db.grant('pilots', 'table:airports')
}

/** What a call rejects with: an error of ours, of a kind, that says something. */
export async function rejects(promise, code, says = /./) {
  const error = await promise.then(
    (value) => assert.fail(`it gave ${JSON.stringify(value)}`),
    (error) => error,
  )
  assert.ok(error instanceof agnes.AgnesError, `${error?.stack ?? error}`)
  assert.equal(error.code, code, error.message)
  assert.match(error.message, says)
  return error
}

export async function tablesOf(db) {
  return (await (await db.sql('SHOW TABLES')).fetchall()).map(([name]) => name).sort()
}
