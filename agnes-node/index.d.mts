export * from './index.js'
import * as agnes from './index.js'
export default agnes
