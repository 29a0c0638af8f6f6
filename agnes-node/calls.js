'use strict'
// Calls of the addon, as users call them: their errors are ours, and their options are those that there are.

const { raised } = require('./errors.js')
const { invalid } = require('./given.js')

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

/** Has all methods of these classes give errors of ours. */
function allOurs(...classes) {
  for (const of of classes) {
    for (const [name, what] of Object.entries(Object.getOwnPropertyDescriptors(of.prototype))) {
      if (name === 'constructor') continue
      const call = `${of.name}.${name}`
      if (what.get) Object.defineProperty(of.prototype, name, { ...what, get: readable(what.get, call) })
      else Object.defineProperty(of.prototype, name, { ...what, value: ours(what.value, call) })
    }
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
  if (typeof options !== 'object' || Array.isArray(options)) throw invalid(`${call}: options are an object`)
  const other = Object.keys(options).find((name) => !names.includes(name))
  if (other !== undefined) {
    throw invalid(`${call}: there is no option \`${other}\`; there are ${names.join(', ')}`)
  }
  const said = ([name, value]) => value != null || (value === null && name === 'lifetimeMs')
  return Object.fromEntries(Object.entries(options).filter(said))
}

module.exports = { allOurs, around, known, ours }
