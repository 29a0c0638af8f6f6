// The figures of benches/README.md about the Node package: `make bench-node`.
//
// What is compared runs in turn, each in a process of its own, over the same parquet file.

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

import agnes from '../agnes-node/index.mjs'

const PACKAGE = fileURLToPath(new URL('../agnes-node', import.meta.url))
const DUCKDB = createRequire(path.join(PACKAGE, 'index.js')).resolve('@duckdb/node-api')
const [ROWS, ROUNDS] = [1_000_000, 7]

const told = (work) => `
  async function main() {
    ${work}
  }
  main().then(([took, rows]) => {
    if (rows !== ${ROWS}) throw new Error(rows + ' rows')
    console.log(JSON.stringify([took, process.resourceUsage().maxRSS / 1024]))
    process.exit()
  })`
const OURS = told(`
    const db = await require(${JSON.stringify(PACKAGE)}).open(process.argv[1])
    const session = await db.session()
    await (await session.sql('SELECT count(*) FROM large')).fetchall()
    const begun = performance.now()
    const table = await (await session.sql('SELECT * FROM large')).toArrow()
    return [performance.now() - begun, table.numRows]`)
const OBJECTS = OURS.replace('toArrow()', 'toObjects()').replace('table.numRows', 'table.length')
const theirs = (read, length) => told(`
    const { DuckDBInstance } = require(${JSON.stringify(DUCKDB)})
    const connection = await (await DuckDBInstance.create()).connect()
    await connection.runAndReadAll("SELECT count(*) FROM '" + process.argv[1] + "'")
    const begun = performance.now()
    const reader = await connection.runAndReadAll("SELECT * FROM '" + process.argv[1] + "'")
    const found = reader.${read}()
    return [performance.now() - begun, found${length}]`)

const run = (program, argument) => JSON.parse(execFileSync(process.execPath, ['-e', program, argument], { encoding: 'utf8' }))
const median = (numbers) => numbers.sort((a, b) => a - b)[numbers.length >> 1]
const line = (what, seen, goal) => console.log(`${what.padEnd(74)} ${seen.padEnd(48)} ${goal}`)

function compare(what, programs, goal) {
  const taken = programs.map(() => [])
  for (let round = 0; round < ROUNDS; round++) programs.forEach(([program, at], i) => taken[i].push(run(program, at)))
  const [[ours, ourPeak], [their, theirPeak]] = taken.map((runs) => [0, 1].map((i) => median(runs.map((one) => one[i]))))
  const ratio = (ours / their).toFixed(2)
  line(what, `${ours.toFixed(0)} against ${their.toFixed(0)} ms: ${ratio}x; ${ourPeak.toFixed(0)} and ${theirPeak.toFixed(0)} MB`, goal)
}

const place = fs.mkdtempSync(path.join(os.tmpdir(), 'agnes-bench-'))
try {
  const db = await agnes.open(place)
  const extract = await db.extractWriter('shop')
  await extract.tableFromSql(
    'large',
    `SELECT i AS id, (i % 100)::INTEGER AS kind, i * 1.5::DOUBLE AS amount, 'name ' || i AS name,
     DATE '2026-01-01' + (i % 365)::INTEGER AS day FROM range(${ROWS}) t(i)`,
  )
  await extract.finish()
  await db.rebuild()
  await db.addUser('ada@example.com')
  await db.addGroup('sales')
  await db.addMember('sales', 'ada@example.com')
  await db.adopt()
  await db.grant('sales', 'table:large')

  const many = 100_000
  const times = Array.from({ length: 9 }, () => {
    const begun = performance.now()
    for (let i = 0; i < many; i++) if (!db.decide('ada@example.com', 'table:large').allowed) throw new Error('denied')
    return ((performance.now() - begun) / many) * 1000
  })
  line('db.decide, a call, and a look whether it is allowed', `${median(times).toFixed(2)} µs`, '≤ 3 µs')
  await db.close()

  const pins = path.join(place, 'analytics', 'pins', 'shop')
  const file = path.join(pins, fs.readdirSync(pins).find((name) => name.startsWith('large.')))
  compare('1 million rows of 5 columns to an Arrow table, against columns of @duckdb/node-api', [[OURS, place], [theirs('getColumns', '[0].length'), file]], '≤ 1.3x')
  compare('the same to objects, against its objects', [[OBJECTS, place], [theirs('getRowObjects', '.length'), file]], '-')

  const loads = []
  for (let i = 0; i < 15; i++) {
    for (const program of [`require(${JSON.stringify(PACKAGE)})`, '0']) {
      const begun = performance.now()
      execFileSync(process.execPath, ['-e', program])
      loads.push(performance.now() - begun)
    }
  }
  const took = median(loads.filter((_, i) => i % 2 === 0)) - median(loads.filter((_, i) => i % 2 === 1))
  line("require('agnes'), over a Node that does nothing", `${took.toFixed(0)} ms`, '-')
} finally {
  fs.rmSync(place, { recursive: true, force: true })
}
