'use strict'
// Statements whose rows are read piece by piece, and signals that end them.

const native = require('./native.js')
const { around, ours } = require('./calls.js')
const { AgnesError } = require('./errors.js')
const given = require('./given.js')

const { Rows } = native

// A signal ends a statement: while it begins, and while its rows are read or wait for it.

const SIGNAL = Symbol('signal')

/** Begins a statement, which the signal ends. */
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

/** Adds the rows of some columns, each as an array of its values. */
function addArrays(found, columns) {
  const count = columns[0]?.length ?? 0
  for (let at = 0; at < count; at++) {
    const row = []
    for (let column = 0; column < columns.length; column++) row.push(columns[column][at])
    found.push(row)
  }
}

const OWN = { writable: true, enumerable: true, configurable: true }

/** Adds the rows of some columns, each as an object with the columns' names as keys. */
function addObjects(found, columns, names) {
  const count = columns[0]?.length ?? 0
  for (let at = 0; at < count; at++) {
    const row = {}
    for (let column = 0; column < names.length; column++) {
      const name = names[column]
      // To set it would make the value what the object inherits from.
      if (name === '__proto__') Object.defineProperty(row, name, { ...OWN, value: columns[column][at] })
      else row[name] = columns[column][at]
    }
    found.push(row)
  }
}

async function all(rows, asObjects) {
  const found = []
  const names = rows.columns
  for await (const columns of pieces(rows, (reader) => nextRows(reader, asObjects))) {
    if (asObjects) addObjects(found, columns, names)
    else addArrays(found, columns)
  }
  return found
}

Object.assign(Rows.prototype, {
  async fetchall() {
    return all(this, false)
  },
  async fetchone() {
    for await (const columns of pieces(this, (reader) => nextRows(reader, false))) {
      if (columns[0]?.length > 0) return columns.map((column) => column[0])
    }
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

module.exports = { statement }
