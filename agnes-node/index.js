'use strict'
// The package: the addon's classes, with what is JavaScript's own of them.

const { inspect } = require('node:util')

const { allOurs, around, known, ours } = require('./calls.js')
const native = require('./native.js')
const { AgnesError, raised } = require('./errors.js')
const given = require('./given.js')

const { Agnes, ExtractWriter, Rows, Session } = native

const DECIDED = Symbol('decided')
const DECIDER = Symbol('decider')
// What a decision that allows something begins with: to read all of it would take as long as to decide.
const ALLOWED = '{"allowed":true,'

/** What the addon has decided, and tells as JSON. */
class Decision {
  #text

  constructor(key, text) {
    if (key !== DECIDED) throw new TypeError('a decision is made by `Agnes.decide`')
    this.#text = text
  }

  get allowed() {
    return this.#text.startsWith(ALLOWED)
  }

  get resource() {
    return JSON.parse(this.#text).resource
  }

  get reasons() {
    return JSON.parse(this.#text).reasons
  }

  toString() {
    return `Decision ${inspect(JSON.parse(this.#text), { breakLength: Infinity, compact: true, maxArrayLength: null })}`
  }
}

const { decider } = Agnes.prototype
delete Agnes.prototype.decider

allOurs(Agnes, ExtractWriter, Rows, Session)
// Its methods are given to it with that.
const { statement } = require('./rows.js')

for (const of of [Agnes, Decision, ExtractWriter, Rows, Session]) {
  of.prototype[Symbol.for('nodejs.util.inspect.custom')] = function () {
    return this.toString()
  }
}

const list = (names) => (typeof names === 'string' ? [names] : names)

// Options, by the place where they stand.
const OPTIONS = [
  [Agnes, 'extractWriter', 1, ['mode']],
  [Agnes, 'addUser', 1, ['name', 'admin']],
  [Agnes, 'addGroup', 1, ['description']],
  [Agnes, 'createToken', 2, ['lifetimeMs']],
  [Agnes, 'rebuild', 1, ['progress']],
  [Agnes, 'planSync', 1, ['all']],
  [Agnes, 'sync', 1, ['all', 'progress']],
  [Agnes, 'refreshMetadata', 1, ['stale']],
  [Agnes, 'refreshProfiles', 1, ['progress']],
  [Agnes, 'putMetrics', 1, ['category']],
  [Agnes, 'sql', 2, ['maxRows', 'maxBytes', 'timeoutMs', 'signal']],
  [Session, 'sql', 2, ['maxRows', 'maxBytes', 'timeoutMs', 'signal']],
  [Session, 'scan', 1, ['select', 'where', 'orderBy', 'limit', 'signal']],
  [Session, 'metric', 1, ['variant', 'signal']],
  [ExtractWriter, 'table', 2, ['description']],
  [ExtractWriter, 'remoteAttach', 1, ['extension', 'url', 'tokenEnv']],
  [ExtractWriter, 'remoteTable', 1, ['alias', 'path', 'columns', 'rows', 'sizeBytes']],
]

for (const [of, name, place, names] of OPTIONS) {
  around(of, name, (inner) => async function (...args) {
    const { signal, ...options } = known(args[place], names, `${of.name}.${name}`)
    if ('progress' in options) options.progress = given.progress(options.progress)
    args[place] = options
    return names.includes('signal') ? statement(this, inner, args, place, signal) : inner.apply(this, args)
  })
}

// By itself: it is asked a hundred thousand times a second.
Object.defineProperty(Agnes.prototype, 'decide', {
  value: function decide(email, resource) {
    try {
      return new Decision(DECIDED, (this[DECIDER] ?? decider.call(this))(email, resource))
    } catch (error) {
      throw raised(error, 'Agnes.decide')
    }
  },
  writable: true,
  configurable: true,
})

around(Agnes, 'ingest', (inner) => async function (source, data, options) {
  const { progress: hears, ...files } = options ?? {}
  return inner.call(this, source, ...(await given.source(data)), given.plain(files), { progress: given.progress(hears) })
})

for (const name of ['sync', 'planSync', 'refreshProfiles']) {
  around(Agnes, name, (inner) => async function (names, options) {
    return inner.call(this, list(names), options)
  })
}

for (const [name, place] of [['register', 2], ['updateTable', 1]]) {
  around(Agnes, name, (inner) => async function (...args) {
    if (args[place] != null) args[place] = given.plain(args[place])
    return inner.apply(this, args)
  })
}

for (const [of, name, place] of [
  [ExtractWriter, 'tableFromParquet', 1],
  [Agnes, 'importMetrics', 0],
  [Agnes, 'exportMetrics', 0],
  [Agnes, 'backUp', 0],
  [Agnes, 'restore', 0],
]) {
  around(of, name, (inner) => async function (...args) {
    args[place] = given.file(args[place])
    return inner.apply(this, args)
  })
}

for (const [name, place] of [['table', 1], ['shard', 2]]) {
  around(ExtractWriter, name, (inner) => async function (...args) {
    args[place] = await given.rows(args[place])
    return inner.apply(this, args)
  })
}

// `await using`, where this Node knows it.
if (Symbol.asyncDispose) {
  for (const [of, name] of [[Agnes, 'close'], [Session, 'close'], [Rows, 'close'], [ExtractWriter, 'abandon']]) {
    of.prototype[Symbol.asyncDispose] = function () {
      return this[name]()
    }
  }
}

const functions = {}
for (const name of ['check', 'checkName', 'engineInfo', 'schedule']) functions[name] = ours(native[name], name)
const opened = ours(native.open, 'open')

async function open(path, options) {
  const names = ['config', 'secrets', 'connectors', 'metadataProviders', 'isolated']
  const { config, secrets, connectors, metadataProviders, isolated } = known(options, names, 'open')
  const isPath = typeof config === 'string' || config instanceof URL
  const db = await opened(
    given.file(path),
    config == null ? null : isPath ? given.file(config) : given.plain(config),
    secrets && given.secrets(secrets),
    given.mapped(connectors, given.connectorType),
    given.mapped(metadataProviders, given.provider),
    given.program(isolated, native.WORKER),
    process.env.LD_LIBRARY_PATH,
  )
  Object.defineProperty(db, DECIDER, { value: decider.call(db) })
  for (const warning of db.warnings()) process.emitWarning(warning, 'AgnesWarning')
  return db
}

async function check(folder) {
  return functions.check(given.file(folder))
}

const beginExtract = ours(native.beginExtract, 'ExtractWriter.begin')
Object.defineProperty(ExtractWriter, 'begin', {
  async value(folder, options) {
    return beginExtract(given.file(folder), known(options, ['mode'], 'ExtractWriter.begin'))
  },
})

/** See `Verdict`. */
function schedule(text, options) {
  return functions.schedule(text, known(options, ['last', 'now'], 'schedule'))
}

module.exports = {
  Agnes,
  AgnesError,
  Decision,
  ExtractWriter,
  Rows,
  Session,
  VERSION: native.VERSION,
  check,
  checkName: functions.checkName,
  engineInfo: functions.engineInfo,
  open,
  schedule,
}
