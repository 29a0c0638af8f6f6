// docs/calls.md: every name in it is there, and every name of the package is in it; the shared cases.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'

import { TOP, agnes } from './support.mjs'

const cases = (name) => JSON.parse(fs.readFileSync(path.join(TOP, 'tests', 'cases', name)))

test('every name of the package is in the table', () => {
  const rows = fs.readFileSync(path.join(TOP, 'docs', 'calls.md'), 'utf8').split('\n')
  const [head, ...lines] = rows.filter((line) => line.startsWith('| ')).map((line) => line.split('|').map((cell) => cell.trim()))
  const column = head.indexOf('Node')
  const told = new Set(lines.flatMap((cells) => [...cells[column].matchAll(/`([\w.]+)`/g)].map(([, name]) => name)))
  const there = new Set()
  for (const [name, what] of Object.entries(agnes)) {
    if (typeof what !== 'function' || what === agnes.AgnesError) continue
    const isClass = /^[A-Z]/.test(name)
    there.add(isClass ? name : `agnes.${name}`)
    if (name === 'Agnes' || name === 'Session') {
      const own = Object.getOwnPropertyNames(what.prototype).filter((of) => !['constructor', 'toString', 'warnings'].includes(of))
      own.forEach((of) => there.add(`${name}.${of}`))
    }
  }
  // A shape, which TypeScript alone has a name for.
  assert.match(fs.readFileSync(path.join(TOP, 'agnes-node', 'index.d.ts'), 'utf8'), /export interface Job\b/)
  told.delete('Job')
  // What the table calls by its methods needs no line of its own.
  assert.deepEqual([...told.add('Agnes').add('Session')].sort(), [...there].sort())
})

test('every name as in every language', () => {
  const kinds = { source: 'strict', table: 'strict', alias: 'strict', extension: 'strict', view: 'view', external: 'external', token_env: 'env' }
  for (const one of cases('names.json')) {
    for (const [kind, key] of Object.entries(kinds)) {
      let takes
      try {
        takes = agnes.checkName(kind, one.text) === one.text
      } catch (error) {
        assert.equal(error.code, 'Invalid')
        takes = false
      }
      assert.equal(takes, one[key], `${kind} ${JSON.stringify(one)}`)
    }
  }
  assert.throws(() => agnes.checkName('colour', 'x'), { code: 'Invalid', message: /no kind of name/ })
})

test('every schedule as in every language', () => {
  for (const one of cases('schedules.json')) {
    const told = agnes.schedule(one.schedule, { last: one.last, now: one.now })
    assert.deepEqual([told.valid, told.due], [one.valid, one.due], one.name)
    assert.equal(told.next?.toISOString().slice(0, 19), one.next?.slice(0, 19), one.name)
  }
  const now = new Date('2026-11-20T12:00:00Z')
  assert.deepEqual(agnes.schedule('every 1h', { last: now, now }).next, new Date('2026-11-20T13:00:00Z'))
  assert.equal(agnes.schedule(null).valid, false)
  assert.throws(() => agnes.schedule('every 1h', { now: new Date(NaN) }), { code: 'Invalid' })
  assert.throws(() => agnes.schedule('every 1h', { now: 'soon' }), { code: 'Invalid' })
})
