'use strict'
// What this platform is called, and the files that are built for it.

const libc = process.platform === 'linux' ? '-gnu' : ''
const platform = `${process.platform}-${process.arch}${libc}`

module.exports = { platform, addon: `agnes.${platform}.node`, worker: 'agnes-node-worker' }
