'use strict'
// What goes wrong, as JavaScript throws it. The addon tells it as JSON.

const native = require('./native.js')

/** Which kinds are worth another try with nothing changed. */
const RETRYABLE = new Set(native.retryableKinds())

class AgnesError extends Error {
  constructor(code, message, options = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.code = code
    this.context = { ...options.context }
    this.retryable = RETRYABLE.has(code)
  }
}
Object.defineProperty(AgnesError.prototype, 'name', { value: 'AgnesError', configurable: true, writable: true })

/** An error of the addon's, as users see it. */
function raised(error, call) {
  if (error instanceof AgnesError || !(error instanceof Error)) return error
  let told
  try {
    told = JSON.parse(error.message)
  } catch {
    // A value of another type than was asked for.
    return new AgnesError('Invalid', `${call}: ${error.message}`, { cause: error })
  }
  const { code, message, context } = told
  // What code of the user's has thrown is the cause; an error of this kind comes out as it is.
  if (error.cause instanceof AgnesError) return error.cause
  return new AgnesError(code, message, 'cause' in error ? { context, cause: error.cause } : { context })
}

/** What code of the user's has thrown, as the addon reads it: whatever it is. */
function described(error) {
  try {
    if (error instanceof AgnesError) {
      const context = Object.entries(error.context).map(([key, value]) => [key, String(value)])
      const { code, message } = error
      return JSON.stringify({ code, message: String(message), context: Object.fromEntries(context) })
    }
    const [name, message] = error instanceof Error ? [error.name, error.message] : [typeof error, String(error)]
    return JSON.stringify({ code: 'Contract', message: `the JavaScript code threw \`${name}\`: ${message}` })
  } catch {
    return JSON.stringify({ code: 'Contract', message: 'the JavaScript code threw what has no text' })
  }
}

module.exports = { AgnesError, raised, described }
