'use strict'
// Finds the addon: beside this file where it was built here, otherwise in the package for this platform.

const fs = require('node:fs')
const path = require('node:path')

const { platform, addon: file, worker } = require('./platform.js')

function place() {
  const here = path.join(__dirname, file)
  if (fs.existsSync(here)) return here
  try {
    return require.resolve(`agnes-${platform}/${file}`)
  } catch {
    throw new Error(
      `agnes has no addon for ${platform}: neither ${here} nor the package agnes-${platform} is there. ` +
        'Install again with optional dependencies, or build it with `make addon`.',
    )
  }
}

const addon = place()
module.exports = require(addon)
// What is started for `isolated`, with what it runs.
module.exports.WORKER = [path.join(path.dirname(addon), worker), addon]
