// postgres.js, whose statements are prepared and pipelined by themselves.

import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { pipeline as piped } from 'node:stream/promises'
import postgres from 'postgres'
import { columns, endless, million, notes, refused, run, ssl, sumOfMillion } from './checks.mjs'

// As text, digits are kept.
const text = { to: 25, from: [20, 1082, 1114, 1700], serialize: String, parse: x => x }

async function connected (work, options = {}) {
  const sql = postgres({ ssl, max: 1, types: { text }, ...options })
  try {
    return await work(sql)
  } finally {
    await sql.end()
  }
}

const count = async sql => Number((await sql`SELECT count(*) AS n FROM notes`)[0].n)

const rows = [
  ['1', true, 32767, 2147483647, '9223372036854775807', 1.5, 0.1, '12345678901234.5678', 'Zoë\'s "tea"',
    Buffer.from([0, 255, 16]), '2026-01-31', '2026-01-31 23:59:59.123456', new Date(Date.UTC(2026, 0, 31, 23, 59, 59, 123)),
    [1, 2, 3], ['a', 'b c']],
  ['2', false, -32768, -2147483648, '-9223372036854775808', -1.5, -0.1, '-0.0001', '', Buffer.alloc(0), '1969-07-20',
    '1969-07-20 20:17:40', new Date(Date.UTC(1969, 6, 20, 20, 17, 40)), [-1], ['']],
  ['3', ...Array(14).fill(null)]
]

await run({
  async connect () {
    await connected(async sql => {
      const [row] = await sql`SELECT current_user AS me, ${'x'}::text AS x`
      assert.deepEqual({ ...row }, { me: 'ann', x: 'x' })
    })
    const e = await refused(connected(sql => sql`SELECT 1`, { password: 'wrong' }))
    assert.equal(e.code, '28P01')
  },

  async metadata () {
    await connected(async sql => {
      const found = await sql`SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = ${'public'}`
      const kinds = Object.fromEntries(found.map(r => [r.table_name, r.table_type]))
      assert.deepEqual([kinds.types, kinds.french_sales], ['BASE TABLE', 'VIEW'])
      const described = await sql`SELECT * FROM types WHERE n > ${'1'} AND id = ${1}`.describe()
      assert.deepEqual(described.columns.map(c => c.name), columns)
      assert.deepEqual(described.types, [1700, 20])
    })
  },

  async types () {
    await connected(async sql => {
      assert.deepEqual([...await sql`SELECT * FROM types WHERE id <= ${3} ORDER BY id`.values()], rows)
      for (const row of rows) {
        const there = Object.fromEntries(columns.map((name, i) => [name, i === 0 ? String(10 + Number(row[0])) : row[i]]))
        await sql`INSERT INTO types ${sql(there)}`
        const [back] = await sql`SELECT * FROM types WHERE id = ${there.id}`
        assert.deepEqual({ ...back }, there)
      }
      await sql`DELETE FROM types WHERE id > 3`
      const found = await sql`SELECT id FROM types WHERE id = ANY(${[1, 3, 99]}) OR t IN ${sql(['x', 'y'])} ORDER BY id`
      assert.deepEqual(found.map(r => r.id), ['1', '3'])
    })
  },

  async large () {
    await connected(async sql => {
      let [seen, sum] = [0, 0]
      for await (const part of sql.unsafe(million).cursor(20000)) {
        seen += part.length
        for (const row of part) sum += Number(row.n)
      }
      assert.deepEqual([seen, sum], [1000000, sumOfMillion])
      assert.equal((await sql.unsafe(million)).length, 1000000)
    })
  },

  async cancel () {
    await connected(async sql => {
      const query = sql.unsafe(endless).execute()
      const again = setInterval(() => query.cancel(), 200)
      const e = await refused(query).finally(() => clearInterval(again))
      assert.equal(e.code, '57014')
      assert.equal((await sql`SELECT 1::int AS one`)[0].one, 1)
    })
  },

  async error () {
    await connected(async sql => {
      for (const [query, code, position] of [
        ["SELECT 'é', nothing FROM types", '42703', '13'], ['SELECT * FROM nowhere', '42P01', '15'],
        ['SELECT id FRM types x', '42601', null], ['SELECT 1 / (id - 1) FROM types', '22012', undefined]
      ]) {
        const e = await refused(sql.unsafe(query))
        assert.ok(e instanceof postgres.PostgresError, e)
        assert.equal(e.code, code, query)
        if (position !== null) assert.equal(e.position, position, query)
      }
      assert.equal((await sql`SELECT 1::int AS one`)[0].one, 1)
    })
  },

  async copy () {
    await connected(async sql => {
      await sql`DELETE FROM notes`
      const lines = Array.from({ length: 10000 }, (_, i) => `${i}\tnote ${i}\n`)
      await piped(Readable.from(lines), await sql`COPY notes (id, note) FROM STDIN`.writable())
      assert.equal(await count(sql), 10000)
      let back = ''
      for await (const chunk of await sql`COPY (SELECT id, note FROM notes ORDER BY id) TO STDOUT`.readable()) back += chunk
      assert.equal(back, lines.join(''))
    })
  },

  async transaction () {
    await connected(async sql => {
      await sql`DELETE FROM notes`
      await refused(sql.begin(async sql => {
        await sql`INSERT INTO notes (id) VALUES (${1})`
        assert.equal(await count(sql), 1)
        throw new Error('changed my mind')
      }))
      assert.equal(await count(sql), 0)
      await sql.begin(async sql => {
        await sql`INSERT INTO notes (id) VALUES (${1}), (${2})`
        await refused(sql.savepoint(async sql => {
          await sql`INSERT INTO notes (id) VALUES (${3})`
          throw new Error('changed my mind')
        }))
      })
      assert.equal(await count(sql), 2)
    })
  },

  async batch () {
    await connected(async sql => {
      await sql`DELETE FROM notes`
      const objects = notes.map(([id, note, price, at]) => ({ id, note, price, at }))
      await sql`INSERT INTO notes ${sql(objects)}`
      assert.deepEqual([...await sql`SELECT * FROM notes ORDER BY id`.values()], notes)
      // Sent without waiting for one another.
      await Promise.all(notes.slice(0, 100).map(([id]) => sql`INSERT INTO notes (id) VALUES (${id})`))
      assert.equal(await count(sql), 1100)
    })
  },

  async pool () {
    await connected(async sql => {
      const pids = await Promise.all(Array.from({ length: 20 }, () => sql`SELECT pg_backend_pid() AS pid`))
      assert.ok(new Set(pids.map(([row]) => row.pid)).size <= 3)
      const reserved = await sql.reserve()
      await reserved`SELECT 1`
      reserved.release()
    }, { max: 3 })
  }
})
