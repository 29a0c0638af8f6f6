'use strict'
// What is JavaScript's own of Agnes: errors with the stack of whoever waits, signals, async iteration, Arrow
// tables. Everything else is in the addon.

const native = require('./native.js')
const { AgnesError, raised } = require('./errors.js')
const given = require('./given.js')

const { Agnes, ExtractWriter, Rows, Session } = native

const DECIDED = Symbol('decided')

/** What the addon has decided. */
class Decision {
  constructor(key, decided) {
    if (key !== DECIDED) throw new TypeError('a decision is made by `Agnes.decide`')
    this[DECIDED] = decided
  }

  get allowed() {
    return native.isAllowed(this[DECIDED])
  }

  get resource() {
    return native.resource(this[DECIDED])
  }

  get reasons() {
    return native.reasons(this[DECIDED])
  }

  toString() {
    return `Decision { ${this.resource}: ${this.allowed ? 'allowed' : 'denied'}, ${native.reason(this[DECIDED])} }`
  }
}

/** What answers at once. */
const AT_ONCE = new Set(['toString', 'warnings', 'schedule', 'checkName'])

/** Has what the addon throws come out as errors of ours. */
function ours(inner, call) {
  const name = call.split('.').pop()
  const calls = AT_ONCE.has(name)
    ? function (...args) {
        try {
          return inner.apply(this, args)
        } catch (error) {
          throw raised(error, call)
        }
      }
    : // It waits here, so that an error has the stack of whoever waits for it.
      async function (...args) {
        try {
          return await inner.apply(this, args)
        } catch (error) {
          throw raised(error, call)
        }
      }
  return Object.defineProperty(calls, 'name', { value: name })
}

const decide = Agnes.prototype.decide

for (const of of [Agnes, ExtractWriter, Rows, Session]) {
  for (const [name, what] of Object.entries(Object.getOwnPropertyDescriptors(of.prototype))) {
    if (name === 'constructor') continue
    const call = `${of.name}.${name}`
    if (what.get) Object.defineProperty(of.prototype, name, { ...what, get: readable(what.get, call) })
    else Object.defineProperty(of.prototype, name, { ...what, value: ours(what.value, call) })
  }
}

for (const of of [Agnes, Decision, ExtractWriter, Rows, Session]) {
  of.prototype[Symbol.for('nodejs.util.inspect.custom')] = function () {
    return this.toString()
  }
}

function readable(get, call) {
  return function () {
    try {
      return get.call(this)
    } catch (error) {
      throw raised(error, call)
    }
  }
}

/** Puts another function around a method. */
function around(of, name, make) {
  const inner = of.prototype[name]
  const outer = make(inner)
  Object.defineProperty(of.prototype, name, {
    value: Object.defineProperty(outer, 'name', { value: name }),
    writable: true,
    configurable: true,
  })
}

/** The options of a call: each has to be known, since one that is misspelt would be ignored. Null is nothing said. */
function known(options, names, call) {
  if (options == null) return {}
  if (typeof options !== 'object' || Array.isArray(options)) throw given.invalid(`${call}: options are an object`)
  const other = Object.keys(options).find((name) => !names.includes(name))
  if (other !== undefined) {
    throw given.invalid(`${call}: there is no option \`${other}\`; there are ${names.join(', ')}`)
  }
  const said = ([name, value]) => value != null || (value === null && name === 'lifetimeMs')
  return Object.fromEntries(Object.entries(options).filter(said))
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

// A signal ends a statement: while it begins, and while its rows are read or wait for it.

const SIGNAL = Symbol('signal')

async function statement(of, inner, args, place, signal) {
  if (signal != null && typeof signal.addEventListener !== 'function') throw given.invalid('`signal` is an AbortSignal')
  if (place === 2 && args[1] != null && !Array.isArray(args[1])) throw given.invalid('parameters are an array')
  const stopper = native.stopper()
  args.length = place + 1
  const heard = hearing(signal, stopper)
  try {
    heard.begin()
    const rows = await inner.apply(of, [...args, stopper])
    Object.defineProperty(rows, SIGNAL, { value: heard })
    return rows
  } catch (error) {
    heard.end()
    throw heard.cause(error)
  }
}

function hearing(signal, stopper) {
  const stop = () => native.stop(stopper)
  let readers = 0
  return {
    begin() {
      if (signal?.aborted) throw new AgnesError('Cancelled', 'the statement was cancelled', { cause: signal.reason })
      signal?.addEventListener('abort', stop, { once: true })
    },
    end() {
      signal?.removeEventListener('abort', stop)
    },
    /** It is heard until nobody reads any more. */
    beginReading() {
      readers += 1
      this.begin()
    },
    endReading() {
      readers -= 1
      if (readers === 0) this.end()
    },
    /** The error, with the reason of the signal where that has ended it. */
    cause(error) {
      if (error?.code === 'Cancelled' && signal?.aborted && error.cause === undefined) error.cause = signal.reason
      return error
    },
  }
}

const [nextRows, nextBytes, allBytes] = ['nextRows', 'nextBytes', 'allBytes'].map((name) => ours(native[name], name))

/** What `step` gives of a reader of rows, until there is nothing more. */
async function* pieces(rows, step) {
  const heard = rows[SIGNAL]
  let reader
  try {
    heard?.beginReading()
    reader = await rows.read()
    for (;;) {
      const piece = await step(reader)
      if (piece === null || piece === undefined) return
      yield piece
    }
  } catch (error) {
    throw heard ? heard.cause(error) : error
  } finally {
    heard?.endReading()
    if (reader) await native.endReading(reader)
  }
}

async function all(rows, asObjects) {
  const found = []
  for await (const some of pieces(rows, (reader) => nextRows(reader, asObjects))) {
    for (const row of some) found.push(row)
  }
  return found
}

Object.assign(Rows.prototype, {
  async fetchall() {
    return all(this, false)
  },
  async fetchone() {
    for await (const [row] of pieces(this, (reader) => nextRows(reader, false))) if (row) return row
    return null
  },
  async toObjects() {
    return all(this, true)
  },
  async toIpc() {
    for await (const bytes of pieces(this, (reader) => allBytes(reader))) return bytes
  },
  async toArrow() {
    const { tableFromIPC } = await given.arrow()
    return tableFromIPC(await this.toIpc())
  },
  ipc() {
    return pieces(this, (reader) => nextBytes(reader))
  },
  async *[Symbol.asyncIterator]() {
    const { RecordBatchReader } = await given.arrow()
    const bytes = this.ipc()
    try {
      yield* await RecordBatchReader.from(bytes)
    } finally {
      await bytes.return()
    }
  },
})

around(Rows, 'close', (inner) => async function () {
  this[SIGNAL]?.end()
  return inner.call(this)
})

// By itself: it is asked a hundred thousand times a second.
around(Agnes, 'decide', () => function (email, resource) {
  try {
    return new Decision(DECIDED, decide.call(this, email, resource))
  } catch (error) {
    throw raised(error, 'Agnes.decide')
  }
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
