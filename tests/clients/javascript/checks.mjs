// Runs the checks of a client one after the other, and says of each whether it held.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'

export const ssl = { ca: readFileSync(process.env.PGSSLROOTCERT, 'utf8') }

export const columns = 'id b i2 i4 i8 f4 f8 n t by d ts tz i4s ts_list'.split(' ')

// Takes longer than anybody waits.
export const endless = 'SELECT count(*) FROM generate_series(1, 1000000000000) AS g(n) WHERE n % 7 = 8'

export const million = "SELECT n, 'row ' || CAST(n AS VARCHAR) AS name FROM generate_series(1, 1000000) AS g(n) ORDER BY n"
export const sumOfMillion = 500000500000

// A thousand rows for the fixture's table `notes`.
export const notes = Array.from({ length: 1000 }, (_, i) => [
  String(i + 1), i % 3 ? `note\t${i}\\ \n"é"` : null, ((i + 1) / 4).toFixed(2), new Date(Date.UTC(2026, 0, 1, 0, 0, i))
])

// What a call is refused with.
export async function refused (promise) {
  let result
  try {
    result = await promise
  } catch (e) {
    return e
  }
  assert.fail(`not refused, but ${JSON.stringify(result)}`)
}

export async function run (checks) {
  let failed = false
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check()
      console.log(`ok ${name}`)
    } catch (e) {
      failed = true
      console.log(`not ok ${name}: ${String(e.message).replace(/\s+/g, ' ')}`)
      console.error(e.stack)
    }
  }
  process.exit(failed ? 1 : 0)
}
