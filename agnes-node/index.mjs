import agnes from './index.js'
import given from './given.js'

given.asImport()

export const {
  Agnes,
  AgnesError,
  Decision,
  ExtractWriter,
  Rows,
  Session,
  VERSION,
  check,
  checkName,
  engineInfo,
  open,
  schedule,
} = agnes
export default agnes
