// Builds the addon and the program that runs it as a worker, in release and with what the Python module shares, and
// writes index.d.ts. Called by `make addon`, which finds DuckDB.

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

import { generateTypeDef } from '@napi-rs/cli'

import platform from './platform.js'

const { addon, worker } = platform

const here = path.dirname(fileURLToPath(import.meta.url))
const target = process.env.CARGO_TARGET_DIR ?? path.join(here, '..', 'target')
const types = path.join(here, '.types')
fs.mkdirSync(types, { recursive: true })
// The macros tell types while they are expanded, and nothing of it where cargo finds that nothing has changed.
if (!fs.existsSync(path.join(types, 'agnes-node'))) fs.utimesSync(path.join(here, 'src', 'lib.rs'), new Date(), new Date())

const env = { ...process.env, NAPI_TYPE_DEF_TMP_FOLDER: types }
execFileSync('cargo', ['build', '--release', '--package', 'agnes-node'], { cwd: here, env, stdio: 'inherit' })

const mac = process.platform === 'darwin'
const built = path.join(target, 'release')
for (const [from, to] of [
  [mac ? 'libagnes_node.dylib' : 'libagnes_node.so', addon],
  [worker, worker],
]) {
  // Beside it first: whoever has loaded the old one goes on with that.
  fs.copyFileSync(path.join(built, from), path.join(here, `${to}.new`))
  fs.renameSync(path.join(here, `${to}.new`), path.join(here, to))
}

const { dts } = await generateTypeDef({ typeDefDir: types, cwd: here, dtsHeaderFile: 'header.d.ts', constEnum: false })
fs.writeFileSync(path.join(here, 'index.d.ts'), dts)
