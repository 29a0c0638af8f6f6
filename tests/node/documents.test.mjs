// What the documents show of Node runs, from their first line to their last; so does the example.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'

import { PACKAGE, TOP, folder } from './support.mjs'

/** A program's folder with the package in it. */
function program() {
  const at = folder()
  fs.mkdirSync(path.join(at, 'node_modules'))
  fs.symlinkSync(PACKAGE, path.join(at, 'node_modules', 'agnes'))
  fs.symlinkSync(path.join(PACKAGE, 'node_modules', 'apache-arrow'), path.join(at, 'node_modules', 'apache-arrow'))
  fs.writeFileSync(path.join(at, 'orders.csv'), 'id,status,amount\n1,paid,9.5\n2,open,20\n3,paid,12.25\n')
  return at
}

const run = (at, ...args) => execFileSync(process.execPath, args, { cwd: at, encoding: 'utf8', timeout: 120_000 })

for (const document of ['docs/node.md', 'README.md', 'agnes-node/README.md']) {
  test(`every snippet of ${document}`, () => {
    const text = fs.readFileSync(path.join(TOP, document), 'utf8')
    const snippets = [...text.matchAll(/^```js\n(.*?)^```/gms)].map(([, snippet]) => snippet)
    assert.ok(snippets.length > 0)
    const at = program()
    fs.writeFileSync(path.join(at, 'snippets.mjs'), snippets.join('\n'))
    run(at, 'snippets.mjs')
  })
}

test('the example serves what its user may see', () => {
  const out = run(path.join(TOP, 'examples', 'node'), 'report.mjs', folder())
  assert.equal(JSON.parse(out)[0].city, 'Chicago')
})
