// The package itself: both kinds of modules, types, threads, the end of a program, beside another DuckDB, packed.

import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { Worker } from 'node:worker_threads'

import { ADA, DATA, PACKAGE, TOP, agnes, folder, publish, rejects, require, withFolder } from './support.mjs'

const run = (program, options = {}) =>
  spawnSync(process.execPath, ['--input-type=commonjs', '-e', program], { encoding: 'utf8', timeout: 120_000, cwd: folder(), ...options })
const AGNES = JSON.stringify(PACKAGE)

test('it is the same for both kinds of modules', async () => {
  const common = require(PACKAGE)
  const named = await import('../../agnes-node/index.mjs')
  assert.equal(named.default, common)
  assert.deepEqual(Object.keys(named).filter((name) => name !== 'default').sort(), Object.keys(common).sort())
  for (const name of Object.keys(common)) assert.equal(named[name], common[name])
  assert.match(agnes.VERSION, /^\d+\.\d+\.\d+$/)
  const { version, icu } = await agnes.engineInfo()
  assert.match(version, /^v2\./)
  assert.equal(icu, true)
})

test('types are known to TypeScript', () => {
  const at = folder()
  const tsc = require.resolve('typescript/package.json')
  const compiler = path.join(path.dirname(tsc), JSON.parse(fs.readFileSync(tsc)).bin.tsc)
  fs.mkdirSync(path.join(at, 'node_modules', '@types'), { recursive: true })
  fs.cpSync(PACKAGE, path.join(at, 'node_modules', 'agnes'), { recursive: true, filter: (file) => !/node_modules|\.node$|worker$|\/src/.test(file.slice(PACKAGE.length)) })
  for (const name of ['@types/node', 'undici-types']) fs.symlinkSync(path.join(PACKAGE, 'node_modules', name), path.join(at, 'node_modules', name))
  const check = (file, ...options) => {
    fs.copyFileSync(path.join(TOP, 'tests', 'node', 'typed.ts'), path.join(at, file))
    const strict = ['--strict', '--noEmit', '--module', 'nodenext', '--target', 'es2022', '--lib', 'es2022,dom,esnext.disposable', '--types', 'node', '--exactOptionalPropertyTypes']
    const done = spawnSync(process.execPath, [compiler, ...strict, ...options, file], { cwd: at, encoding: 'utf8' })
    assert.equal(done.status, 0, done.stdout + done.stderr)
  }
  // Without apache-arrow, in both kinds of modules, its own declarations looked at as well; then with it.
  check('typed.mts')
  check('typed.cts')
  fs.symlinkSync(path.join(PACKAGE, 'node_modules', 'apache-arrow'), path.join(at, 'node_modules', 'apache-arrow'))
  check('typed.mts', '--skipLibCheck')
})

test('types of reports are those that Python has', () => {
  const done = spawnSync('python3', [path.join(PACKAGE, 'types.py'), '--check'], { encoding: 'utf8' })
  assert.equal(done.status, 0, done.stderr)
})

test('everything is described in index.d.ts', () => {
  const types = fs.readFileSync(path.join(PACKAGE, 'index.d.ts'), 'utf8')
  for (const [name, what] of Object.entries(agnes)) {
    assert.match(types, new RegExp(`export (declare )?(class|function|const) ${name}\\b`), name)
    for (const of of Object.getOwnPropertyNames(what.prototype ?? {})) {
      if (!['constructor', 'warnings', 'read', 'name'].includes(of)) assert.match(types, new RegExp(`  (get )?${of}\\(`), `${name}.${of}`)
    }
  }
  const silent = types.split('\n').filter((line, at, all) => /^  (get )?\w+\(/.test(line) && !all[at - 1].includes('*/'))
  assert.deepEqual(silent.filter((line) => !line.includes('extract(job') && !line.includes('constructor')), [])
})

test('it shows what things are', () =>
  withFolder(async (db) => {
    await publish(db)
    assert.match(inspect(db), /^Agnes \{ \//)
    assert.equal(inspect(await db.session()), 'Session { generation 1, 3 tables }')
    assert.equal(inspect([await db.sql('SELECT 1 AS n')]), '[ Rows { n INTEGER } ]')
  }))

test('options that are not there are no options', async () => {
  const at = folder()
  await rejects(agnes.open(at, { isolate: true }), 'Invalid', /no option `isolate`.*isolated/)
  await rejects(agnes.open(at, 'config.yaml'), 'Invalid', /options are an object/)
  await rejects(agnes.open(), 'Invalid', /path is a string/)
  await rejects(agnes.open(at, { connectors: { x: 42 } }), 'Invalid', /class/)
  // What is meant to keep statements in is never taken for a no.
  for (const isolated of ['', 0, 1, {}]) await rejects(agnes.open(at, { isolated }), 'Invalid', /`isolated` is empty|a path is/)
  for (const secrets of ['X=1', 5]) await rejects(agnes.open(at, { secrets }), 'Invalid', /`secrets` are/)
  await rejects(agnes.open(at, { metadataProviders: { dwh: 42 } }), 'Invalid', /provider/)
  await rejects(agnes.open(path.join(at, 'a\0b')), 'Invalid')
})

test('what is made by nobody else is no object of ours', () => {
  for (const of of [agnes.Agnes, agnes.Session, agnes.Rows, agnes.Decision]) assert.throws(() => new of())
  assert.throws(() => agnes.Agnes.prototype.decide.call({}, ADA, 'table:x'))
})

test('threads of Node have their own', async () => {
  const at = folder()
  const program = `
    const { parentPort, workerData } = require('node:worker_threads')
    const agnes = require(${AGNES})
    agnes.open(workerData).then(async (db) => {
      parentPort.postMessage(await (await db.sql('SELECT 42')).fetchall())
      await db.close()
      // Another that is open when the thread ends, with a statement that runs.
      const left = await agnes.open(workerData + '-left')
      await left.sql('SELECT * FROM range(1e11::BIGINT)')
      process.exit()
    })`
  for (let i = 0; i < 3; i++) {
    const worker = new Worker(program, { eval: true, workerData: path.join(at, `${i}`) })
    const [[message]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
    assert.deepEqual(message, [[42]])
  }
})

test('a thread that is ended while it is asked lets the folder go', async () => {
  const at = path.join(folder(), 'data')
  const worker = new Worker(`
    const { parentPort, workerData } = require('node:worker_threads')
    const agnes = require(${AGNES})
    agnes.open(workerData).then(async (db) => {
      await db.ingest('shop', { orders: [{ id: 1 }] })
      // Its thread is busy when progress is to be told, and for ever.
      db.rebuild(null, { progress: () => {} })
      parentPort.postMessage('begun')
      for (;;);
    })`, { eval: true, workerData: at })
  await once(worker, 'message')
  await worker.terminate()
  const program = `
    const agnes = require(${AGNES})
    agnes.open(${JSON.stringify(at)}).then(async (db) => {
      for (let tries = 0; tries < 100; tries++) {
        const users = await db.addUser('ada@example.com').catch((error) => error)
        if (users.email) return console.log('had')
        await new Promise((go) => setTimeout(go, 100))
      }
    })`
  assert.equal(run(program).stdout, 'had\n')
})

for (const [how, end] of [['by itself', ''], ['by process.exit', 'process.exit(0)'], ['by an exception', "throw new Error('over')"]]) {
  test(`a program ends ${how} with statements that run and rows that nobody reads`, () => {
    const at = folder()
    // What is destroyed under a statement's hands is so now and then.
    for (let time = 0; time < 10; time++) {
      const done = run(`
      const agnes = require(${AGNES})
      agnes.open(${JSON.stringify(path.join(at, 'data'))}, { isolated: ${how === 'by itself'} }).then(async (db) => {
        const rows = await db.sql('SELECT * FROM range(1e11::BIGINT)')
        await rows.fetchone()
        const left = await db.sql('SELECT * FROM range(1e11::BIGINT)')
        ${end ? "db.sql('SELECT max(a.range * b.range) FROM range(1e6::BIGINT) a, range(1e6::BIGINT) b').catch(() => {})" : ''}
        console.log('done')
        ${end}
      })`)
      assert.equal(done.stdout, 'done\n', done.stderr)
      assert.equal(done.status, how === 'by an exception' ? 1 : 0, done.stderr)
      assert.equal(done.signal, null)
    }
  })
}

test('a program that is killed leaves the folder to the next', async () => {
  const at = path.join(folder(), 'data')
  const program = `
    const agnes = require(${AGNES})
    agnes.open(${JSON.stringify(at)}).then(async (db) => {
      await db.ingest('shop', { orders: [{ id: 1 }] })
      await db.rebuild()
      const extract = await db.extractWriter('shop')
      await extract.table('orders', [{ id: 1 }, { id: 2 }])
      console.log('begun')
      setInterval(() => {}, 1000)
    })`
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  child.kill('SIGKILL')
  await once(child, 'exit')
  const db = await agnes.open(at)
  assert.deepEqual(await (await db.sql('SELECT id::INTEGER FROM orders')).fetchall(), [[1]])
  await db.close()
})

test('another DuckDB in the same process', () => {
  const duckdb = JSON.stringify(require.resolve('@duckdb/node-api'))
  for (const first of ['agnes', 'duckdb']) {
    const done = run(`
      const load = { agnes: () => require(${AGNES}), duckdb: () => require(${duckdb}) }
      const order = ${first === 'agnes' ? "['agnes', 'duckdb']" : "['duckdb', 'agnes']"}
      const { agnes, duckdb } = Object.fromEntries(order.map((name) => [name, load[name]()]))
      async function main() {
        const db = await agnes.open('data')
        await db.ingest('shop', { orders: Array.from({ length: 1000 }, (_, id) => ({ id, name: 'x' + id })) })
        await db.rebuild()
        const connection = await (await duckdb.DuckDBInstance.create()).connect()
        const reader = await connection.runAndReadAll('SELECT sum(range)::BIGINT FROM range(100000)')
        const [[sum]] = reader.getRows()
        const [[same]] = await (await db.sql('SELECT sum(range)::BIGINT FROM range(100000)')).fetchall()
        const wrong = await db.sql('SELECT * FROM nowhere').catch((error) => error.code)
        const theirs = await connection.run('SELECT * FROM nowhere').catch((error) => error.constructor.name)
        console.log(sum === same, wrong, theirs, duckdb.version(), (await agnes.engineInfo()).version)
        await db.close()
      }
      main()`)
    assert.equal(done.status, 0, done.stderr)
    assert.match(done.stdout, /^true NotFound Error v1\.\d+\.\d+ v2\./, first)
  }
})

test('worker processes answer alike', async () => {
  await withFolder(async (db) => {
    await publish(db)
    const ada = await db.asUser(ADA)
    assert.deepEqual(await ada.tables(), ['airports'])
    const rows = await ada.sql('SELECT iata FROM airports ORDER BY iata')
    assert.equal((await rows.fetchall()).length, 3376)
    assert.equal((await rows.toArrow()).numRows, 3376)
    const workers = await db.workers()
    assert.ok(workers.started >= 1)
    for (const wall of ['files', 'system_calls', 'limits']) assert.ok(workers.walls.includes(wall), `${workers.walls}`)
    await rejects(ada.sql("SELECT * FROM read_text('/etc/passwd')"), 'Denied')
    const control = new AbortController()
    const long = await ada.sql('SELECT max(a.range * b.range) FROM range(1e6::BIGINT) a, range(1e6::BIGINT) b', [], { signal: control.signal })
    setTimeout(() => control.abort(), 100)
    await rejects(long.fetchall(), 'Cancelled')
  }, { isolated: true })
  await withFolder(async (db) => rejects(db.workers(), 'Unavailable', /\/nowhere\/agnes-worker/), { isolated: '/nowhere/agnes-worker' })
})

test('await using closes what it has', { skip: !Symbol.asyncDispose }, async () => {
  const at = path.join(folder(), 'data')
  const db = await agnes.open(at)
  const extract = await db.extractWriter('shop')
  await extract.table('orders', [{ id: 1 }])
  await extract[Symbol.asyncDispose]()
  const rows = await db.sql('SELECT 1')
  const session = await db.session()
  for (const one of [rows, session, db]) await one[Symbol.asyncDispose]()
  await rejects(rows.fetchall(), 'Invalid', /closed/)
  await rejects(session.tables(), 'Invalid', /closed/)
  await (await agnes.open(at)).close()
})

test('it is packed for a platform, and runs from its packages', () => {
  const at = folder()
  const packed = execFileSync(process.execPath, [path.join(PACKAGE, 'pack.js'), at], { encoding: 'utf8' }).trim().split('\n')
  assert.equal(packed.length, 2)
  fs.writeFileSync(path.join(at, 'package.json'), '{}')
  execFileSync('npm', ['install', '--offline', '--no-audit', '--no-fund', ...packed], { cwd: at, stdio: 'pipe' })
  const files = fs.readdirSync(path.join(at, 'node_modules', 'agnes')).sort()
  assert.ok(!files.some((file) => file.endsWith('.node') || file === 'src'), `${files}`)
  const program = `
    const agnes = require('agnes')
    agnes.open('data', { isolated: true }).then(async (db) => {
      console.log(await (await db.sql('SELECT 42 AS n')).toObjects())
      await rejected(db.sql('SELECT 1').then((rows) => rows.toArrow()))
      await db.close()
    })
    const rejected = (promise) => promise.then(() => console.log('?'), (error) => console.log(error.message))`
  const done = run(program, { cwd: at })
  assert.match(done.stdout, /^\[ \{ n: 42 \} \]\n.*npm install apache-arrow/, done.stderr)
})
