#!/usr/bin/env node
// A small tool: publishes the files of a folder, and writes a report of what one user may see, as JSON or Arrow.
//
//     node report.mjs [DATA-FOLDER] [--as EMAIL] [--format json|arrow]
//
// Its user is in the group `pilots`, which may see airports and flights; weather and wildlife she may not.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

import * as agnes from '../../agnes-node/index.mjs'

const EXAMPLES = new URL('../data/', import.meta.url)

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { as: { type: 'string', default: 'ada@example.com' }, format: { type: 'string', default: 'json' } },
})
const folder = positionals[0] ?? fs.mkdtempSync(path.join(os.tmpdir(), 'agnes-report-'))

/** Publishes the sources, and says who may see what; again and again, if somebody likes. */
async function publish(db) {
  for (const source of ['aviation', 'weather', 'wildlife']) await db.ingest(source, new URL(source, EXAMPLES))
  await db.rebuild()
  const ignoreTwice = (error) => {
    if (error.code !== 'Conflict') throw error
  }
  await db.addUser('ada@example.com').catch(ignoreTwice)
  await db.addUser('bob@example.com').catch(ignoreTwice)
  await db.addGroup('pilots').catch(ignoreTwice)
  await db.addMember('pilots', 'ada@example.com').catch(ignoreTwice)
  for (const table of ['airports', 'flights']) await db.grant('pilots', `table:${table}`).catch(ignoreTwice)
}

const BUSIEST = `
  SELECT a.city, a.state, count(*)::INTEGER AS flights, round(avg(f.delay), 1) AS mean_delay_minutes
  FROM flights f JOIN airports a ON a.iata = f.origin
  GROUP BY ALL ORDER BY flights DESC, a.city LIMIT $1`

async function main() {
  const db = await agnes.open(folder)
  try {
    await publish(db)
    const user = await db.asUser(values.as)
    console.error(`${values.as} sees: ${(await user.tables()).join(', ') || 'nothing'}`)
    const rows = await user.sql(BUSIEST, [5], { signal: AbortSignal.timeout(30_000) })
    if (values.format === 'arrow') {
      // As it comes: no more of it is in memory than a batch.
      await pipeline(Readable.from(rows.ipc()), process.stdout)
    } else {
      console.log(JSON.stringify(await rows.toObjects(), null, 2))
    }
  } catch (error) {
    if (!(error instanceof agnes.AgnesError)) throw error
    console.error(`${error.code}: ${error.message}`)
    process.exitCode = error.retryable ? 75 : 1
  } finally {
    await db.close()
  }
}

await main()
