'use strict'
// What users give, as the addon takes it.

const { randomUUID } = require('node:crypto')
const { createRequire } = require('node:module')
const path = require('node:path')
const { fileURLToPath, pathToFileURL } = require('node:url')
const { types } = require('node:util')

const { AgnesError, described } = require('./errors.js')

const invalid = (message) => new AgnesError('Invalid', message)

/** Stands around the digits of a BigInt in JSON: nobody's text has it. */
const DIGITS = randomUUID()

/** JSON, in which a BigInt keeps its digits: as a number where 64 bits hold it, which is what readers keep of one. */
function json(value) {
  let any = false
  const text = JSON.stringify(value, (_, part) => {
    // Half of a pair is no text.
    if (typeof part === 'string') return part.isWellFormed() ? part : part.toWellFormed()
    if (typeof part !== 'bigint') return part
    if (part !== BigInt.asIntN(64, part) && part !== BigInt.asUintN(64, part)) return String(part)
    any = true
    return `${DIGITS}${part}`
  })
  return any ? text.replace(new RegExp(`"${DIGITS}(-?\\d+)"`, 'g'), '$1') : text
}

/** A value as JSON knows it: of a Date its text, a BigInt as the number that it is. */
function plain(value) {
  if (value === undefined || value === null) return null
  const text = JSON.stringify(value, (_, part) => {
    if (typeof part !== 'bigint') return part
    if (BigInt.asIntN(54, part) !== part) throw invalid(`${part} can't be given here: it has more than 53 bits`)
    return Number(part)
  })
  return text === undefined ? null : JSON.parse(text)
}

// The package `apache-arrow` is there twice where a program has both kinds of modules, and each of them knows its own
// tables alone: whoever has imported this package gets those of the import.
let imported = false
const loaded = new Map()

/** It, from beside this package or from the program's folder. */
function arrow(asImport = imported) {
  if (!loaded.has(asImport)) loaded.set(asImport, load(asImport))
  return loaded.get(asImport)
}

async function load(asImport) {
  for (const from of [__filename, path.join(process.cwd(), 'index.js')]) {
    const { resolve } = createRequire(from)
    try {
      const file = resolve('apache-arrow')
      return asImport ? await import(pathToFileURL(file.replace(/\.js$/, '.mjs'))) : require(file)
    } catch (error) {
      if (!error.code?.endsWith('MODULE_NOT_FOUND')) throw error
    }
  }
  loaded.delete(asImport)
  throw invalid('this needs the package apache-arrow: `npm install apache-arrow`, or read toObjects() or toIpc()')
}

/** Rows: Arrow IPC, a table of apache-arrow, or objects, as JSON lines. */
async function rows(given) {
  // A copy: it is read on another thread, while whoever gave it may do with it what she likes.
  if (types.isUint8Array(given)) return Uint8Array.prototype.slice.call(given)
  if (Array.isArray(given)) {
    if (given.every((row) => row !== null && typeof row === 'object' && !Array.isArray(row))) {
      return given.map(json).join('\n')
    }
  } else if (given?.schema && (given.batches || given.data)) {
    const known = [await arrow(), await arrow(!imported)]
    // Their `instanceof` takes the other one's for its own.
    const made = ({ prototype }) => prototype.isPrototypeOf(given)
    const { RecordBatch, Table, tableToIPC } = known.find((one) => made(one.Table) || made(one.RecordBatch)) ?? known[0]
    return tableToIPC(made(RecordBatch) ? new Table([given]) : given, 'stream')
  }
  throw invalid('rows are an Arrow table, the bytes of Arrow IPC, or an array of objects')
}

/** A path, also as a URL of a file. */
function file(given) {
  if (typeof given === 'string') return given
  if (given instanceof URL) return fileURLToPath(given)
  throw invalid('a path is a string or a URL')
}

/** A function that another thread calls: it hears what came of it by `reply`. */
function answering(work) {
  return (reply, ...given) => {
    const answer = async () => plain(await work(...given))
    answer().then(
      (value) => reply(null, value ?? undefined),
      (error) => reply(described(error), error),
    )
  }
}

/** A class of connectors, or a function that makes one. */
function connectorType(make) {
  if (typeof make !== 'function') throw invalid('a connector is a class, or a function that makes one')
  return answering(async (config, job) => {
    const connector = await made(make, config)
    await connector.extract(job)
    return null
  })
}

function made(make, config) {
  if (typeof make.prototype?.extract === 'function') return new make(config)
  try {
    return make(config)
  } catch (error) {
    // A class whose instances have the method, or one that is bound.
    if (error instanceof TypeError && error.message.includes("without 'new'")) return new make(config)
    throw error
  }
}

/** A function that hears how far something is; what it returns is its own affair. */
function progress(hears) {
  if (hears == null) return undefined
  if (typeof hears !== 'function') throw invalid('`progress` is a function')
  return answering(async (...told) => {
    await hears(...told)
    return null
  })
}

/** What `ingest` takes: paths, an object with `extract`, or tables. The addon has a place for each. */
async function source(data) {
  if (typeof data === 'string' || data instanceof URL) return [[file(data)], null, null]
  if (Array.isArray(data)) return [data.map(file), null, null]
  if (typeof data?.extract === 'function') {
    const run = async (_, job) => {
      await data.extract(job)
      return null
    }
    return [null, answering(run), null]
  }
  const isPlain = data !== null && typeof data === 'object' && !types.isUint8Array(data) && !data.schema
  if (!isPlain) throw invalid('data are a path, an array of paths, an object of tables by name, or a connector')
  const tables = Object.entries(data).map(async ([name, given]) => [name, await rows(given)])
  return [null, null, await Promise.all(tables)]
}

function provider(given) {
  if (typeof given === 'function') return answering(given)
  if (typeof given?.metadata === 'function') return answering((table) => given.metadata(table))
  throw invalid('a provider of metadata is a function of a table, or an object with a method metadata(table)')
}

/** What is started for workers; nothing where nobody asked for them, and never for what is neither yes nor no. */
function program(isolated, ours) {
  if (isolated === undefined || isolated === null || isolated === false) return null
  if (isolated === true) return ours
  if (isolated === '') throw invalid('`isolated` is empty: it is true, false or the path of a program')
  return [file(isolated)]
}

function secrets(given) {
  if (typeof given !== 'function' && typeof given !== 'object') throw invalid('`secrets` are an object or a function')
  const of = typeof given === 'function' ? given : (name) => (Object.hasOwn(given, name) ? given[name] : null)
  return answering(async (name) => {
    const value = await of(name)
    if (value != null && typeof value !== 'string') throw invalid(`the variable \`${name}\` is no string`)
    return value
  })
}

function mapped(object, make) {
  if (object == null) return null
  if (typeof object !== 'object' || Array.isArray(object)) throw invalid('connectors and providers are an object, by name')
  return Object.fromEntries(Object.entries(object).map(([name, value]) => [name, make(value)]))
}

const asImport = () => (imported = true)

module.exports = { arrow, asImport, connectorType, file, invalid, mapped, plain, program, progress, provider, rows, secrets, source }
