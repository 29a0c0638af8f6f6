// Data in: files, objects, Arrow, extracts, connectors in JavaScript, syncs, rebuilds.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'

import { ADA, DATA, agnes, folder, publish, rejects, require, tablesOf, withFolder } from './support.mjs'

const { tableFromArrays, tableToIPC, RecordBatchReader } = require('apache-arrow')
const ORDERS = [
  { id: 1, status: 'paid', amount: 9.5 },
  { id: 2, status: 'open', amount: 20 },
  { id: 3, status: null, amount: 0.25 },
]
const arrow = () =>
  tableFromArrays({ id: Int32Array.from([1, 2, 3]), status: ['paid', 'open', null], amount: Float64Array.from([9.5, 20, 0.25]) })

test('files become tables', () =>
  withFolder(async (db) => {
    const report = await db.ingest('aviation', pathToFileURL(path.join(DATA, 'aviation')))
    assert.deepEqual(Object.fromEntries(report.tables.map((t) => [t.table, t.rows])), { airports: 3376, flights: 2000 })
    const heard = []
    const rebuilt = await db.rebuild(null, { progress: (...told) => heard.push(told) })
    assert.ok(rebuilt.published)
    assert.deepEqual(rebuilt.created.sort(), ['airports', 'flights'])
    assert.ok(heard.length > 0 && heard.every(([what, done, total]) => typeof what === 'string' && done <= total))
    assert.deepEqual(await tablesOf(db), ['airports', 'flights'])
    const publication = await db.publication()
    assert.equal(publication.tables, 2)
    assert.ok(publication.at instanceof Date)
    assert.equal((await db.rebuild()).published, false)
    assert.deepEqual((await db.rebuild('aviation')).created, [])
  }))

test('options of files are those of the connector', () =>
  withFolder(async (db, at) => {
    const file = path.join(at, 'codes.csv')
    fs.writeFileSync(file, 'code;name\n01;one\n')
    await db.ingest('codes', file, { delimiter: ';' })
    await db.rebuild()
    assert.deepEqual(await (await db.sql('FROM codes')).fetchall(), [['01', 'one']])
    await rejects(db.ingest('codes', file, { delimter: ';' }), 'Invalid', /delimter/)
    const missing = await rejects(db.ingest('codes', path.join(at, 'missing.csv')), 'NotFound')
    assert.match(missing.context.path, /missing.csv/)
    await rejects(db.ingest('shop', { orders: ORDERS }, { delimiter: ';' }), 'Invalid', /options are for files/)
  }))

test('rows of every kind come in', () =>
  withFolder(async (db) => {
    const kinds = {
      objects: ORDERS,
      table: arrow(),
      batch: arrow().batches[0],
      stream: tableToIPC(arrow(), 'stream'),
      file: tableToIPC(arrow(), 'file'),
    }
    const report = await db.ingest('shop', kinds)
    assert.deepEqual(report.tables.map((t) => [t.status, t.rows]), Array(5).fill(['created', 3]))
    await db.rebuild()
    for (const name of Object.keys(kinds)) {
      const rows = await (await db.sql(`SELECT id::INTEGER AS id, status, amount FROM "${name}" ORDER BY id`)).toObjects()
      assert.deepEqual(rows, ORDERS, name)
    }
  }))

test('objects have the types of a JSON file', () =>
  withFolder(async (db) => {
    const at = new Date('2026-02-03T04:05:06.789Z')
    const rows = [
      { id: 2n ** 62n, huge: 2n ** 80n, at, day: '2026-02-03', tags: ['a'], of: { deep: true }, note: '"5n"', gone: undefined, half: 'a\ud800b' },
      { id: -1n, huge: 0n, at, day: '2026-02-04', tags: [], of: { deep: false }, note: null },
    ]
    await db.ingest('shop', { rows })
    await db.rebuild()
    const found = await db.sql('SELECT * FROM rows ORDER BY id DESC')
    const [first, second] = await found.toObjects()
    assert.equal(first.id, 2n ** 62n)
    assert.equal(String(first.huge), String(2n ** 80n))
    assert.deepEqual(second.tags, [])
    assert.equal(first.day, '2026-02-03')
    assert.deepEqual(first.of, { deep: true })
    assert.equal(first.note, '"5n"')
    assert.equal(first.half, 'a\ufffdb')
    const [[same]] = await (await db.sql("SELECT count(*) FROM rows WHERE \"at\" = '2026-02-03T04:05:06.789Z'")).fetchall()
    assert.equal(same, 2n)
  }))

test('what has no rows is refused, and nothing is written of it', () =>
  withFolder(async (db) => {
    for (const [wrong, says] of [
      [[], /no record/],
      [[1, 2], /array of objects/],
      ['orders', /array of objects/],
      [new Uint8Array([1, 2, 3]), /can't be read as Arrow/],
      [Buffer.concat([tableToIPC(arrow(), 'stream').subarray(0, 200)]), /can't be read as Arrow/],
      [Buffer.from('ARROW1 but not really'), /can't be read as Arrow/],
    ]) {
      const error = await rejects(db.ingest('shop', { orders: wrong }), 'Invalid', says)
      assert.doesNotMatch(error.message, /scratch/)
    }
    for (const wrong of [42, null, undefined, arrow(), Buffer.from('x')]) await rejects(db.ingest('shop', wrong), 'Invalid', /data are/)
    await rejects(db.ingest('shop', { "or'ders": ORDERS }), 'Invalid', /no letter/)
    await rejects(db.ingest(42, { orders: ORDERS }), 'Invalid', /Agnes.ingest/)
    assert.ok(!fs.existsSync(path.join(db.path, 'extracts', 'shop')))
  }))

test('a writer publishes at its end or nothing', () =>
  withFolder(async (db) => {
    let extract = await db.extractWriter('crm')
    await Promise.all([
      extract.table('orders', ORDERS, { description: 'one row for each order' }),
      extract.shard('visits', '2026-01', tableFromArrays({ n: Int32Array.from([1, 2]) })),
      extract.shard('visits', '2026-02', tableFromArrays({ n: Int32Array.from([3]) })),
      extract.tableFromSql('numbers', 'SELECT range AS n FROM range(5)'),
    ])
    assert.equal(String(extract), 'ExtractWriter { crm }')
    assert.deepEqual((await extract.finish()).written.sort(), ['numbers', 'orders', 'visits'])
    await rejects(extract.finish(), 'Invalid', /finished/)
    await rejects(extract.table('late', ORDERS), 'Invalid', /finished/)
    const checked = { source: 'crm', tables: ['numbers', 'orders', 'visits'], findings: [] }
    assert.deepEqual(await db.check('crm'), checked)
    assert.deepEqual(await agnes.check(path.join(db.path, 'extracts', 'crm')), checked)

    extract = await db.extractWriter('crm')
    await extract.table('other', ORDERS)
    await extract.abandon()
    assert.deepEqual((await db.check('crm')).tables, ['numbers', 'orders', 'visits'])

    extract = await db.extractWriter('crm', { mode: 'partial' })
    await extract.remove('numbers')
    await extract.describe('orders', 'told later')
    await extract.finish()
    assert.deepEqual((await db.check('crm')).tables, ['orders', 'visits'])
    await rejects(db.extractWriter('crm', { mode: 'some' }), 'Invalid', /`replace` or `partial`/)

    extract = await agnes.ExtractWriter.begin(path.join(db.path, 'extracts', 'twice'))
    await extract.table('a', ORDERS)
    await rejects(extract.table('a', ORDERS), 'Conflict')
    await rejects(extract.shard('b', 'x', ORDERS), 'Invalid', /Arrow rows/)
    await extract.abandon()
  }))

test('remote tables are declared by a writer', () =>
  withFolder(async (db) => {
    const extract = await db.extractWriter('dwh')
    await extract.remoteAttach('pg', { extension: 'postgres', url: 'host=db', tokenEnv: 'DWH_TOKEN' })
    await extract.remoteTable('sales', { alias: 'pg', path: ['public', 'sales'], columns: [['id', 'BIGINT']], rows: 10, sizeBytes: 100 })
    await rejects(extract.remoteTable('wrong', { alias: 'pg', path: ['x'], rows: -1 }), 'Invalid', /whole number/)
    await rejects(extract.remoteAttach('pg', { extension: 'postgres' }), 'Invalid', /url/)
    await extract.finish()
    assert.deepEqual((await db.check('dwh')).tables, ['sales'])
  }))

class Weather {
  static jobs = []

  constructor(config) {
    this.days = config.days
  }

  async extract(job) {
    Weather.jobs.push(job)
    if (this.days < 0) throw new RangeError('there are no days below zero')
    const rows = Array.from({ length: this.days }, (_, day) => ({ day, at: job.now }))
    await job.writer.table('forecast', rows, { description: 'what comes' })
  }
}

const ofConfig = (days) => ({
  config: { sources: { meteo: { connector: 'weather', config: { days } } } },
  connectors: { weather: Weather },
})

test('a connector in JavaScript runs in a sync', async () => {
  const at = folder()
  let db = await agnes.open(at, ofConfig(3))
  const report = await db.sync()
  assert.deepEqual(report.sources[0].tables, [{ table: 'forecast', rows: 3, status: 'created' }])
  assert.deepEqual(report.rebuild.created, ['forecast'])
  assert.deepEqual(await (await db.sql('SELECT max(day)::INTEGER FROM forecast')).fetchone(), [2])
  const job = Weather.jobs.at(-1)
  assert.equal(job.source, 'meteo')
  assert.equal(job.tables, null)
  assert.ok(job.now instanceof Date && Array.isArray(job.declared))
  assert.equal((await db.sync('meteo')).sources[0].tables[0].status, 'replaced')
  assert.equal((await db.planSync(['meteo'])).sources[0].source, 'meteo')
  await rejects(db.sync('other'), 'NotFound')
  await rejects(db.sync('meteo', { all: true }), 'Invalid', /not both/)
  await db.close()
  // A function that makes one does as well.
  db = await agnes.open(at, { ...ofConfig(-1), connectors: { weather: async (config) => new Weather(config) } })
  const [failed] = (await db.sync(null, { all: true })).sources
  assert.equal(failed.status, 'failed')
  assert.match(failed.error.message, /RangeError.*below zero/)
  assert.deepEqual(await (await db.sql('SELECT count(*)::INTEGER FROM forecast')).fetchone(), [3])
  await db.close()
})

test('a connector in JavaScript runs by itself', () =>
  withFolder(async (db) => {
    await db.ingest('meteo', new Weather({ days: 2 }))
    await db.rebuild()
    assert.deepEqual(await (await db.sql('SELECT count(*)::INTEGER FROM forecast')).fetchone(), [2])
    const contract = await rejects(db.ingest('meteo', new Weather({ days: -1 })), 'Contract', /`RangeError`: there are no days/)
    assert.ok(contract.cause instanceof RangeError)
    const own = new agnes.AgnesError('Unavailable', 'the source sleeps', { context: { source: 'meteo' } })
    const polite = await rejects(db.ingest('meteo', { extract: () => { throw own } }), 'Unavailable')
    assert.equal(polite, own)
    assert.equal(polite.retryable, true)
    for (const thrown of [undefined, null, 'text', 42]) {
      const odd = await rejects(db.ingest('meteo', { extract: () => Promise.reject(thrown) }), 'Contract')
      assert.equal(odd.cause, thrown)
    }
    // A connector may ask the folder meanwhile.
    await db.ingest('counts', {
      async extract(job) {
        await job.writer.table('counts', await (await db.sql('SELECT count(*)::INTEGER AS n FROM forecast')).toObjects())
      },
    })
    // One that finishes its writer itself has done so.
    await db.ingest('own', { async extract(job) { await job.writer.table('t', ORDERS); await job.writer.finish() } })
    assert.deepEqual((await db.check('own')).tables, ['t'])
  }))

test('more connectors than there are threads may ask for something at once', () =>
  withFolder(async (db) => {
    const over = new Error('over')
    const one = (at) => rejects(db.ingest(`s${at}`, { async extract(job) { await job.writer.remove('t'); throw over } }), 'Contract')
    const errors = await Promise.all(Array.from({ length: 600 }, (_, at) => one(at)))
    assert.ok(errors.every((error) => error.cause === over))
  }))

test('whatever a function of a user throws or returns, the program goes on', () =>
  withFolder(async (db) => {
    const odd = [
      Object.create(null),
      new agnes.AgnesError('Contract', 'bad', { context: { rows: 5n } }),
      Object.assign(new Error(), { message: Symbol('x') }),
      { toString() { throw new Error('no text') } },
    ]
    for (const thrown of odd) await rejects(db.ingest('odd', { extract() { throw thrown } }), 'Contract')
    const circular = {}
    circular.circular = circular
    await db.ingest('shop', { orders: ORDERS }, { progress: () => circular })
    assert.ok((await db.rebuild(null, { progress: () => () => 1 })).published)
    await rejects(db.rebuild(null, { progress: 5 }), 'Invalid', /`progress` is a function/)
  }))

test('a connector may be made in every way', async () => {
  const extract = (job) => job.writer.table('t', ORDERS)
  class Own { extract = extract }
  const kinds = {
    promised: function () { return Promise.resolve({ extract }) },
    arrow: () => ({ extract }),
    own: Own,
    bound: class { extract = extract }.bind(null),
    old: Object.assign(function () {}, { prototype: { extract } }),
  }
  const sources = Object.fromEntries(Object.keys(kinds).map((name) => [name, { connector: name }]))
  await withFolder(async (db) => {
    const { sources } = await db.sync(null, { all: true })
    assert.deepEqual(sources.map((one) => one.error?.message), Array(5).fill(undefined))
  }, { config: { sources }, connectors: kinds })
})

test('bytes that their owner takes away are not read any more', () =>
  withFolder(async (db) => {
    const bytes = tableToIPC(tableFromArrays({ n: Float64Array.from({ length: 2_000_000 }, (_, i) => i) }), 'stream')
    const buffer = new ArrayBuffer(bytes.length, { maxByteLength: bytes.length })
    new Uint8Array(buffer).set(bytes)
    const extract = await db.extractWriter('shop')
    const writing = extract.table('numbers', new Uint8Array(buffer))
    buffer.resize(0)
    await writing
    await extract.finish()
    await db.rebuild()
    assert.deepEqual(await (await db.sql('SELECT count(*), max(n) FROM numbers')).fetchone(), [2_000_000n, 1_999_999])
  }))

test('what progress throws comes out of the call', () =>
  withFolder(async (db) => {
    const enough = new Error('enough')
    const error = await rejects(db.ingest('aviation', path.join(DATA, 'aviation'), { progress: () => { throw enough } }), 'Contract', /enough/)
    assert.equal(error.cause, enough)
  }))

test('a provider in JavaScript knows of remote tables', async () => {
  const provider = {
    async metadata(table) {
      if (table.source_table === 'broken') throw new Error('the warehouse is closed')
      if (table.source_table === 'unknown') return null
      return { rows: 1_000_000n, size_bytes: 64_000_000, known_columns: ['id'] }
    },
  }
  await withFolder(async (db) => {
    for (const name of ['orders', 'broken', 'unknown']) {
      await db.register(name, 'dwh', { query_mode: 'remote', bucket: 'sales', source_table: name })
    }
    const report = await db.refreshMetadata()
    assert.deepEqual([report.total, report.succeeded, report.no_data, report.failed], [3, 1, 1, 1])
    const rows = Object.fromEntries((await db.metadataStatus()).tables.map((row) => [row.table_id, row]))
    assert.equal(rows.orders.rows, 1_000_000)
    assert.ok(rows.orders.refreshed_at instanceof Date)
    assert.match(rows.broken.error_msg, /the warehouse is closed/)
    assert.equal((await db.refreshMetadata('orders')).status, 'ok')
    assert.equal((await db.refreshMetadata(null, { stale: true })).total, 2)
    const both = await Promise.all([db.refreshMetadata(), db.refreshMetadata()])
    assert.ok(both.every((one) => 'run_id' in one))
    assert.equal((await db.updateTable('orders', { description: 'what was sold' })).description, 'what was sold')
    await rejects(db.register('other', 'dwh', { query_mod: 'remote' }), 'Invalid', /query_mod/)
    assert.equal((await db.unregister('orders')).name, 'orders')
  }, { metadataProviders: { dwh: provider } })
})

test('the configuration may be a file with variables', async () => {
  const at = folder()
  const instance = path.join(at, 'config', 'instance.yaml')
  fs.mkdirSync(path.dirname(instance))
  fs.writeFileSync(path.join(at, 'config', 'orders.csv'), 'id\n1\n')
  fs.writeFileSync(instance, "sources:\n  shop:\n    connector: files\n    config: {paths: ['${FILE}']}\nquery: {time_seconds: 5}\nqury: {}\n")
  const warned = new Promise((heard) => process.once('warning', heard))
  for (const secrets of [{ FILE: 'orders.csv' }, async (name) => (name === 'FILE' ? 'orders.csv' : null)]) {
    const db = await agnes.open(path.join(at, 'data'), { config: instance, secrets })
    assert.equal((await db.planSync()).sources[0].source, 'shop')
    await db.close()
  }
  assert.match((await warned).message, /did you mean `query`/)
  await rejects(agnes.open(at, { config: { query: { time_seconds: 'soon' } } }), 'Invalid', /time_seconds/)
  await rejects(agnes.open(at, { config: path.join(at, 'typo.yaml') }), 'NotFound', /typo.yaml/)
  const sealed = () => { throw new Error('the vault is sealed') }
  await rejects(agnes.open(path.join(at, 'data'), { config: instance, secrets: sealed }), 'Contract', /sealed/)
  // Nor is one that fails later taken for a variable that isn't set.
  const later = await agnes.open(path.join(at, 'data'), { secrets: sealed })
  await rejects(later.asToken('a.b.c'), 'Unavailable', /can't be had/)
  await later.close()
  const endless = {}
  endless.query = endless
  await assert.rejects(agnes.open(at, { config: endless }), TypeError)
  await rejects(agnes.open(path.join(at, 'data'), { config: instance, secrets: { FILE: 5 } }), 'Invalid', /`FILE` is no string/)
  await rejects(agnes.open(at, { config: { query: { time_seconds: 2n ** 60n } } }), 'Invalid', /53 bits/)
})

test('a folder is had by one process until it is closed', async () => {
  const at = path.join(folder(), 'data')
  const db = await agnes.open(at)
  await publish(db)
  const [session, rows] = [await db.session(), await db.sql('FROM airports')]
  assert.ok(path.isAbsolute(db.path))
  await db.close()
  await db.close()
  for (const call of [() => db.users(), () => session.tables(), () => rows.fetchall(), () => db.sql('SELECT 1')]) {
    await rejects(call(), 'Invalid', /closed/)
  }
  assert.throws(() => db.decide(ADA, 'table:airports'), { code: 'Invalid' })
  assert.throws(() => session.generation, { code: 'Invalid' })
  assert.match(`${db} ${session}`, /closed.*closed/)
  const again = await agnes.open(at)
  assert.equal((await (await again.sql('FROM airports')).fetchall()).length, 3376)
  await again.close()
})

test('a backup brings back what no sync does', () =>
  withFolder(async (db, at) => {
    await publish(db)
    await db.putMetrics('name: count\ndisplay_name: N\ncategory: c\ntype: sum\nsql: SELECT count(*) AS n FROM airports\n')
    const file = path.join(at, 'backup')
    await db.backUp(file)
    await withFolder(async (other) => {
      await other.restore(file)
      assert.deepEqual((await other.users()).map((user) => user.email).sort(), [ADA, 'bob@example.com'])
      assert.deepEqual((await other.metrics()).map((metric) => metric.id), ['c/count'])
    })
    assert.deepEqual(await (await (await db.session()).metric('c/count')).fetchall(), [[3376n]])
    assert.equal((await db.exportMetrics(path.join(at, 'metrics'))).length, 1)
    await db.removeMetric('c/count')
    await db.importMetrics(path.join(at, 'metrics'))
    assert.deepEqual(await db.checkMetrics(), await db.checkMetrics())
    await rejects(db.putMetrics('{'), 'Invalid')
  }))
