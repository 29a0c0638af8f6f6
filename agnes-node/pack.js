'use strict'
// Packs what was built into a folder: the package, and the one for this platform, which holds the addon. Each
// platform's is made on it; the package asks for all of them, and npm takes the one that fits.

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const PLATFORMS = {
  'linux-x64-gnu': { os: ['linux'], cpu: ['x64'], libc: ['glibc'] },
  'linux-arm64-gnu': { os: ['linux'], cpu: ['arm64'], libc: ['glibc'] },
  'darwin-x64': { os: ['darwin'], cpu: ['x64'] },
  'darwin-arm64': { os: ['darwin'], cpu: ['arm64'] },
}

const to = path.resolve(process.argv[2] ?? 'dist')
const { platform, addon, worker } = require('./platform.js')
const { devDependencies, ...about } = require('./package.json')
const binaries = [addon, worker]
const names = Object.keys(PLATFORMS).map((name) => [`agnes-${name}`, about.version])

function pack(files, manifest) {
  const at = fs.mkdtempSync(path.join(os.tmpdir(), 'agnes-pack-'))
  try {
    for (const file of files) fs.copyFileSync(path.join(__dirname, file), path.join(at, file))
    fs.writeFileSync(path.join(at, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
    fs.mkdirSync(to, { recursive: true })
    const name = execFileSync('npm', ['pack', '--silent', '--pack-destination', to], { cwd: at, encoding: 'utf8' })
    console.log(path.join(to, name.trim()))
  } finally {
    fs.rmSync(at, { recursive: true, force: true })
  }
}

pack([...about.files, 'README.md'], { ...about, optionalDependencies: Object.fromEntries(names) })
const { name, version, description, license, engines } = about
pack(binaries, {
  name: `${name}-${platform}`,
  version,
  description: `${description}: the addon for ${platform}`,
  license,
  engines,
  files: binaries,
  ...PLATFORMS[platform],
})
