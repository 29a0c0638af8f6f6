// Rows out: values, Arrow, as they come, ended by a signal; and what is wrong with a statement.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { setTimeout as after } from 'node:timers/promises'

import { ADA, agnes, publish, rejects, require, withFolder } from './support.mjs'

const { RecordBatchReader, tableFromIPC } = require('apache-arrow')
const ENDLESS = 'SELECT max(a.range * b.range) FROM range(1e6::BIGINT) a, range(1e6::BIGINT) b'
const LONG = 'SELECT * FROM range(1e11::BIGINT)'

test('the same rows in every shape', () =>
  withFolder(async (db) => {
    await publish(db)
    const rows = await db.sql('SELECT iata, latitude FROM airports ORDER BY iata LIMIT 3')
    assert.deepEqual([rows.columns, rows.types], [['iata', 'latitude'], ['VARCHAR', 'DOUBLE']])
    assert.equal(rows.truncated, null)
    const listed = await rows.fetchall()
    assert.deepEqual(listed[0], ['00M', 31.95376472])
    assert.equal(rows.truncated, false)
    assert.deepEqual(await rows.fetchone(), listed[0])
    assert.deepEqual((await rows.toObjects())[0], { iata: '00M', latitude: 31.95376472 })
    const table = await rows.toArrow()
    assert.deepEqual([...table].map((row) => [row.iata, row.latitude]), listed)
    assert.equal(tableFromIPC(await rows.toIpc()).numRows, 3)
    assert.equal(String(rows), 'Rows { iata VARCHAR, latitude DOUBLE }')
    assert.equal(await (await db.sql('SELECT 1 WHERE false')).fetchone(), null)
    assert.equal((await (await db.sql('SELECT 1 AS n WHERE false')).toArrow()).numRows, 0)
  }))

test("values are JavaScript's own", () =>
  withFolder(async (db) => {
    const rows = await db.sql(`SELECT true, 1::TINYINT, -2::BIGINT, 18446744073709551615::UBIGINT,
      170141183460469231731687303715884105727::HUGEINT, 1.5::FLOAT, 2.5::DOUBLE, 3.25::DECIMAL(5, 2), 'é', '\\xAA'::BLOB,
      DATE '2026-02-03', TIME '04:05:06.789', TIMESTAMP '2026-02-03 04:05:06.789', TIMESTAMPTZ '2026-02-03 04:05:06+02',
      [1, NULL], {'a': 1::BIGINT, 'b': ['x']}, MAP {'k': 1}, NULL, 'f47ac10b-58cc-4372-a567-0e02b2c3d479'::UUID,
      'b'::ENUM('a', 'b'), TIMESTAMPTZ '2026-02-03 04:05:06.789999+00', 'infinity'::TIMESTAMPTZ, [7::BIGINT], 'nan'::DOUBLE`)
    assert.deepEqual(await rows.fetchone(), [
      true, 1, -2n, 2n ** 64n - 1n, 2n ** 127n - 1n, 1.5, 2.5, '3.25', 'é', Buffer.from([0xaa]),
      '2026-02-03', '04:05:06.789', '2026-02-03T04:05:06.789', new Date('2026-02-03T02:05:06Z'),
      [1, null], { a: 1n, b: ['x'] }, { k: 1 }, null, 'f47ac10b-58cc-4372-a567-0e02b2c3d479',
      'b', new Date('2026-02-03T04:05:06.789Z'), 'infinity', [7n], NaN,
    ])
    assert.deepEqual(rows.types.slice(0, 20), [
      'BOOLEAN', 'TINYINT', 'BIGINT', 'UBIGINT', 'HUGEINT', 'FLOAT', 'DOUBLE', 'DECIMAL(5,2)', 'VARCHAR', 'BLOB',
      'DATE', 'TIME', 'TIMESTAMP', 'TIMESTAMP WITH TIME ZONE', 'INTEGER[]', 'STRUCT(a BIGINT, b VARCHAR[])',
      'MAP(VARCHAR, INTEGER)', rows.types[17], 'UUID', 'ENUM',
    ])
  }))

test('every type is read by apache-arrow', () =>
  withFolder(async (db) => {
    const rows = await db.sql(`SELECT i % 2 = 0 AS bool, (i % 100)::TINYINT AS tiny, i::SMALLINT AS small, i::INTEGER AS int, i AS big,
      i::UBIGINT AS ubig, i::HUGEINT AS huge, i::FLOAT AS float, i::DOUBLE AS double, i::DECIMAL(10, 2) AS decimal,
      'x' || i AS text, ('x' || i)::BLOB AS blob, DATE '2026-01-01' + i::INTEGER AS day, TIMESTAMP '2026-01-01' AS local,
      TIMESTAMPTZ '2026-01-01 00:00:00+00' AS at, TIME '01:02:03' AS clock, [i, NULL] AS list, {'a': i} AS struct, MAP {i: 'x'} AS map,
      (['a', 'b'][i % 2 + 1])::ENUM('a', 'b') AS word, uuid() AS uuid, NULL AS nothing FROM range(5000) t(i)`)
    const table = await rows.toArrow()
    assert.equal(table.numRows, 5000)
    const row = table.get(4321).toJSON()
    assert.equal(row.big, 4321n)
    assert.equal(row.text, 'x4321')
    assert.equal(row.word, 'b')
    assert.deepEqual([...row.list], [4321n, null])
    assert.equal(row.struct.a, 4321n)
    assert.equal(+row.at, Date.parse('2026-01-01T00:00:00Z'))
    assert.equal(row.nothing, null)
  }))

// Columns without a NULL cross over in one piece, others value by value: row by row, nobody sees which.
test('a value is of one kind, whatever else is in its column', () =>
  withFolder(async (db) => {
    const kinds = ['TINYINT', 'SMALLINT', 'INTEGER', 'UTINYINT', 'USMALLINT', 'UINTEGER', 'FLOAT', 'DOUBLE', 'BIGINT', 'UBIGINT', 'HUGEINT']
    const columns = kinds.map((kind) => `(i % 100)::${kind} AS a_${kind}, CASE WHEN i < 5000 THEN (i % 100)::${kind} END AS b_${kind}`)
    const rows = await db.sql(`SELECT ${columns.join(', ')} FROM range(10000) t(i) ORDER BY i`)
    const values = await rows.fetchall()
    const objects = await rows.toObjects()
    assert.deepEqual([values.length, objects.length], [10_000, 10_000])
    values.forEach((row, i) => {
      const expected = kinds.flatMap((kind) => {
        const value = ['BIGINT', 'UBIGINT', 'HUGEINT'].includes(kind) ? BigInt(i % 100) : i % 100
        return [value, i < 5000 ? value : null]
      })
      assert.deepEqual(row, expected)
      assert.deepEqual(Object.values(objects[i]), expected)
    })
    const extremes = "SELECT unnest(['-0.0', 'nan', 'infinity', '1e308'])::DOUBLE AS d, unnest([-9223372036854775808, 9223372036854775807, 0, -1])::BIGINT AS n"
    assert.deepEqual(await (await db.sql(extremes)).fetchall(), [[-0, -(2n ** 63n)], [NaN, 2n ** 63n - 1n], [Infinity, 0n], [1e308, -1n]])
  }))

test('columns of one name are not lost', () =>
  withFolder(async (db) => {
    const rows = await db.sql('SELECT 1 AS a, 2 AS a')
    assert.deepEqual(await rows.fetchall(), [[1, 2]])
    await rejects(rows.toObjects(), 'Invalid', /two columns are called `a`/)
    assert.deepEqual(await (await db.sql(`SELECT 1 AS "__proto__", 2 AS "constructor"`)).toObjects(), [
      Object.defineProperty({ constructor: 2 }, '__proto__', { value: 1, enumerable: true, writable: true, configurable: true }),
    ])
  }))

test('parameters are bound', () =>
  withFolder(async (db) => {
    const now = new Date('2026-02-03T04:05:06.007Z')
    const given = [null, true, 2n ** 62n, 1.5, 7, "'; DROP TABLE x", Buffer.from([0]), now]
    const rows = await db.sql('SELECT ?, ?, ?, ?, ?, ?, ?, ?', given)
    assert.deepEqual(await rows.fetchone(), [...given.slice(0, 4), 7n, ...given.slice(5, 7), '2026-02-03T04:05:06.007'])
    assert.deepEqual(await (await db.sql('SELECT $1 + $1', [21])).fetchone(), [42n])
    await rejects(db.sql('SELECT ?'), 'Invalid', /1 parameters/)
    for (const wrong of [2n ** 63n, Symbol('x'), {}, () => 1, new Date(NaN)]) await rejects(db.sql('SELECT ?', [wrong]), 'Invalid')
    for (const wrong of [42, 'text', {}]) await rejects(db.sql('SELECT ?', wrong), 'Invalid')
    assert.deepEqual(await (await db.sql('SELECT ?', [undefined])).fetchone(), [null])
    const [minus] = await (await db.sql('SELECT 1 / ?::DOUBLE', [-0])).fetchone()
    assert.equal(minus, -Infinity)
    // Half of a pair is no text.
    assert.deepEqual(await (await db.sql('SELECT ?', ['\ud800'])).fetchone(), ['\ufffd'])
  }))

test('limits are asked for', () =>
  withFolder(async (db) => {
    const many = 'SELECT * FROM range(1000000)'
    const rows = await db.sql(many, null, { maxRows: 10 })
    assert.equal((await rows.fetchall()).length, 10)
    assert.equal(rows.truncated, true)
    assert.equal((await (await db.sql(many)).toArrow()).numRows, 1_000_000)
    const late = await rejects((await db.sql('SELECT count(*) FROM range(1e12::BIGINT)', [], { timeoutMs: 200 })).fetchall(), 'Limit', /0.2 s/)
    assert.equal(late.context.reason, 'timeout')
    await rejects(db.sql('SELECT 1', [], { timeoutMs: -1 }), 'Invalid', /no time in milliseconds/)
    for (const maxRows of [-1, 1.5, NaN]) await rejects(db.sql('SELECT 1', [], { maxRows }), 'Invalid', /whole number/)
    await rejects(db.sql('SELECT 1', [], { maxRow: 1 }), 'Invalid', /no option `maxRow`/)
  }))

test('rows are read as they come, and breaking off ends the statement', () =>
  withFolder(async (db) => {
    // Four statements may run: a fifth would wait.
    for (let i = 0; i < 8; i++) {
      let read = 0
      for await (const batch of await db.sql(LONG)) {
        assert.equal(batch.get(0).range, BigInt(read))
        read += batch.numRows
        if (read > 10_000) break
      }
      const rows = await db.sql(LONG)
      for await (const bytes of rows.ipc()) {
        assert.ok(bytes instanceof Uint8Array)
        break
      }
      await rows.close()
      await rejects(rows.fetchall(), 'Invalid', /closed/)
      assert.equal(typeof (await (await db.sql(LONG)).fetchone())[0], 'bigint')
    }
    // The pieces are one stream.
    const rows = await db.sql('SELECT * FROM range(300000)')
    let [read, batches] = [0, 0]
    for await (const batch of await RecordBatchReader.from(rows.ipc())) {
      read += batch.numRows
      batches += 1
    }
    assert.equal(read, 300_000)
    assert.ok(batches > 3 && batches < 100, `${batches} batches`)
  }))

test('nothing else waits while a statement runs or its rows come', () =>
  withFolder(async (db) => {
    let longest = 0
    let last = performance.now()
    const ticking = setInterval(() => {
      longest = Math.max(longest, performance.now() - last)
      last = performance.now()
    }, 1)
    await rejects((await db.sql(ENDLESS, [], { timeoutMs: 500 })).fetchall(), 'Limit')
    const rows = await db.sql('SELECT i, i::VARCHAR AS text FROM range(500000) t(i)')
    assert.equal((await rows.toObjects()).length, 500_000)
    clearInterval(ticking)
    assert.ok(longest > 0 && longest < 450, `the loop stood still for ${longest} ms`)
  }))

test('a signal ends a statement, wherever it is', () =>
  withFolder(async (db) => {
    const reason = new Error('nobody wants it any more')
    const aborted = await rejects(db.sql('SELECT 1', [], { signal: AbortSignal.abort(reason) }), 'Cancelled')
    assert.equal(aborted.cause, reason)

    for (const read of ['fetchall', 'toArrow', 'toIpc', 'toObjects']) {
      const control = new AbortController()
      const rows = await db.sql(ENDLESS, [], { signal: control.signal })
      const reading = rows[read]()
      await after(50)
      control.abort(reason)
      assert.equal((await rejects(reading, 'Cancelled')).cause, reason)
    }

    // Between two batches.
    const between = new AbortController()
    await assert.rejects(async () => {
      for await (const _ of await db.sql(LONG, [], { signal: between.signal })) between.abort()
    }, { code: 'Cancelled' })

    // One signal for many statements keeps none of them.
    const one = new AbortController()
    let warned = false
    const warn = () => (warned = true)
    process.on('warning', warn)
    for (let i = 0; i < 30; i++) await (await db.sql('SELECT 1', [], { signal: one.signal })).fetchall()
    await after(10)
    process.off('warning', warn)
    assert.equal(warned, false, 'listeners pile up')
    await rejects(db.sql('SELECT 1', [], { signal: AbortSignal.timeout(0) }).then(async (rows) => {
      await after(20)
      return rows.fetchall()
    }), 'Cancelled')
  }))

test('a signal is heard until the last reader has ended, and rows that are closed end at once', () =>
  withFolder(async (db) => {
    const control = new AbortController()
    const rows = await db.sql(LONG, [], { signal: control.signal })
    const pieces = rows.ipc()
    await pieces.next()
    await rows.fetchone()
    control.abort()
    await assert.rejects(async () => {
      for await (const _ of pieces);
    }, { code: 'Cancelled' })

    const endless = await db.sql(ENDLESS)
    const reading = endless.fetchall()
    await after(50)
    await endless.close()
    await rejects(reading, 'Cancelled')
    const few = await db.sql('SELECT 1', [], { maxRows: 5 })
    await few.fetchall()
    await few.close()
    assert.equal(few.truncated, false)
    for (const signal of [5, {}, 'x']) await rejects(db.sql('SELECT 1', [], { signal }), 'Invalid', /AbortSignal/)
    await rejects(db.sql('SELECT 1', { maxRows: 1 }), 'Invalid', /parameters are an array/)
  }))

test('a session or a folder that is closed ends what it runs', () =>
  withFolder(async (db) => {
    const session = await db.session()
    const rows = await Promise.all(Array.from({ length: 4 }, () => session.sql(LONG)))
    const reading = (await session.sql('SELECT 1').catch((e) => e), rows[0].toIpc())
    await after(50)
    await session.close()
    await rejects(reading, 'Cancelled')
    assert.deepEqual(await (await db.sql('SELECT 1')).fetchone(), [1])
    await rejects(rows[1].fetchall(), 'Invalid', /closed/)
  }))

test('errors say what to do, and where it was asked for', () =>
  withFolder(async (db) => {
    await publish(db)
    const ada = await db.asUser(ADA)
    for (const [query, code] of [
      ['SELEC 1', 'Invalid'],
      ['DROP TABLE airports', 'Denied'],
      ['FROM flights', 'Denied'],
      ['FROM nowhere', 'Denied'],
      ["FROM read_csv('/etc/passwd')", 'Denied'],
    ]) {
      const error = await rejects(ada.sql(query), code)
      assert.equal(error.name, 'AgnesError')
      assert.equal(error.retryable, false)
      assert.match(error.stack, /rows.test.mjs/, error.stack)
    }
    const [hidden, absent] = await Promise.all(['flights', 'flighty'].map((name) => rejects(ada.sql(`FROM ${name}`), 'Denied')))
    assert.equal(hidden.message.replaceAll('flights', 'X'), absent.message.replaceAll('flighty', 'X'))
    await rejects(ada.sql(42), 'Invalid', /Session.sql/)
    await rejects(ada.sql(), 'Invalid', /Session.sql/)
    await rejects(ada.sql('SELECT \0'), 'Invalid')
  }))

test('a table is scanned by columns, a condition, an order', () =>
  withFolder(async (db) => {
    await publish(db)
    const ada = await db.asUser(ADA)
    const rows = await ada.scan('airports', { select: ['iata'], where: 'latitude > 60', orderBy: ['latitude desc'], limit: 2 })
    assert.deepEqual(await rows.fetchall(), [['BRW'], ['AWI']])
    await rejects(ada.scan('flights'), 'Denied')
    await rejects(ada.scan('airports', { orderby: ['iata'] }), 'Invalid', /no option `orderby`/)
    assert.deepEqual(await ada.reads('SELECT count(*) FROM airports'), ['airports'])
  }))
