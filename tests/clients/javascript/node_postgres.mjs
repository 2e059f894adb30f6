// node-postgres, with its cursors, streams and COPY.

import assert from 'node:assert/strict'
import { Readable, Writable } from 'node:stream'
import { pipeline as piped } from 'node:stream/promises'
import pg from 'pg'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'
import Cursor from 'pg-cursor'
import QueryStream from 'pg-query-stream'
import { columns, endless, million, notes, refused, run, ssl, sumOfMillion } from './checks.mjs'

// A date has no zone and no time: its digits are kept.
const DATE = 1082
const TIMESTAMP = 1114
pg.types.setTypeParser(DATE, text => text)
pg.types.setTypeParser(TIMESTAMP, text => text)

const rows = [
  ['1', true, 32767, 2147483647, '9223372036854775807', 1.5, 0.1, '12345678901234.5678', 'Zoë\'s "tea"',
    Buffer.from([0, 255, 16]), '2026-01-31', '2026-01-31 23:59:59.123456', new Date(Date.UTC(2026, 0, 31, 23, 59, 59, 123)),
    [1, 2, 3], ['a', 'b c']],
  ['2', false, -32768, -2147483648, '-9223372036854775808', -1.5, -0.1, '-0.0001', '', Buffer.alloc(0), '1969-07-20',
    '1969-07-20 20:17:40', new Date(Date.UTC(1969, 6, 20, 20, 17, 40)), [-1], ['']],
  ['3', ...Array(14).fill(null)]
]

async function connected (work, options = {}) {
  const client = new pg.Client({ ssl, ...options })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

const arrays = async (client, text, values) => (await client.query({ text, values, rowMode: 'array' })).rows
const value = async (client, text, values) => (await arrays(client, text, values))[0][0]
const count = async client => Number(await value(client, 'SELECT count(*) FROM notes'))

await run({
  async connect () {
    await connected(async client => {
      assert.equal(await value(client, 'SELECT current_user'), 'ann')
      assert.equal(await value(client, 'SHOW ssl'), 'on')
    })
    const e = await refused(new pg.Client({ ssl, password: 'wrong' }).connect())
    assert.equal(e.code, '28P01')
    // A server whose certificate comes from somebody else.
    const untrusted = await refused(new pg.Client({ ssl: true }).connect())
    assert.match(untrusted.code, /^(UNABLE|SELF_SIGNED|DEPTH_ZERO)/)
  },

  async metadata () {
    await connected(async client => {
      const kinds = Object.fromEntries(await arrays(client,
        'SELECT table_name, table_type FROM information_schema.tables WHERE table_schema = $1', ['public']))
      assert.deepEqual([kinds.types, kinds.french_sales], ['BASE TABLE', 'VIEW'])
      const relkinds = Object.fromEntries(await arrays(client,
        'SELECT relname, relkind FROM pg_class WHERE relnamespace = $1::regnamespace', ['public']))
      assert.deepEqual([relkinds.types, relkinds.sales_hourly, relkinds.top_products, relkinds.french_sales], ['r', 'm', 'm', 'v'])
      const { fields } = await client.query('SELECT * FROM types LIMIT 0')
      assert.deepEqual(fields.map(f => f.name), columns)
      assert.deepEqual(fields.map(f => f.dataTypeID),
        [20, 16, 21, 23, 20, 700, 701, 1700, 25, 17, 1082, 1114, 1184, 1007, 1009])
      assert.equal(fields[7].dataTypeModifier, ((18 << 16) | 4) + 4)
      assert.deepEqual(fields.map(f => f.dataTypeSize), [8, 1, 2, 4, 8, 4, 8, -1, -1, -1, 4, 8, 8, -1, -1])
      const found = await client.query(`SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull FROM pg_attribute a
        WHERE a.attrelid = 'types'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`)
      assert.deepEqual(found.rows.map(r => r.attname), columns)
      assert.deepEqual(found.rows[7], { attname: 'n', type: 'numeric(18,4)', attnotnull: false })
      assert.equal(found.rows[0].attnotnull, true)
    })
  },

  // Parameters are text but for Buffers. Results are text: the driver's option for binary ones takes them for UTF-8.
  async types () {
    const marks = columns.map((_, i) => `$${i + 1}`).join(', ')
    await connected(async client => {
      assert.deepEqual(await arrays(client, 'SELECT * FROM types WHERE id <= 3 ORDER BY id'), rows)
      assert.deepEqual(await arrays(client, 'SELECT * FROM types WHERE id <= $1 ORDER BY id', [3]), rows)
      for (const row of rows) {
        const there = [String(10 + Number(row[0])), ...row.slice(1)]
        await client.query(`INSERT INTO types VALUES (${marks})`, there)
        assert.deepEqual(await arrays(client, 'SELECT * FROM types WHERE id = $1', [there[0]]), [there])
      }
      await client.query('DELETE FROM types WHERE id > 3')
      for (const [i, name] of columns.entries()) {
        // A Date has no microseconds.
        const wanted = name === 'tz' ? '2026-01-31T23:59:59.123456Z' : rows[0][i]
        const found = await arrays(client, `SELECT id FROM types WHERE ${name} = $1 AND id <= 3`, [wanted])
        assert.deepEqual(found, [['1']], name)
      }
      const found = await arrays(client, 'SELECT id FROM types WHERE id = ANY($1) ORDER BY id', [[1, 3, 99]])
      assert.deepEqual(found, [['1'], ['3']])
      for (const [wanted, name] of [
        [true, 'boolean'], ['9007199254740993', 'bigint'], ['-1.50', 'numeric(10, 2)'], [0.1, 'double precision'], ['é\n\\', 'text'],
        [Buffer.from([0, 92, 39]), 'bytea'], [new Date(0), 'timestamptz'], [[1, null, 3], 'int[]'], [[], 'int[]'],
        [['a', null, 'NULL', '"', '{,}'], 'text[]'], [null, 'int']
      ]) {
        assert.deepEqual(await value(client, `SELECT $1::${name}`, [wanted]), wanted, name)
      }
    })
  },

  async large () {
    await connected(async client => {
      const { rows } = await client.query(million)
      assert.equal(rows.length, 1000000)
      assert.deepEqual(rows[999999], { n: '1000000', name: 'row 1000000' })
    })
  },

  async cursor () {
    await connected(async client => {
      const cursor = client.query(new Cursor(million.replace('ORDER', 'WHERE n <= $1 ORDER'), [1000000]))
      let rows = await cursor.read(3)
      assert.deepEqual(rows.map(r => r.n), ['1', '2', '3'])
      let [seen, sum] = [3, 6]
      while ((rows = await cursor.read(50000)).length > 0) {
        seen += rows.length
        for (const row of rows) sum += Number(row.n)
      }
      assert.deepEqual([seen, sum], [1000000, sumOfMillion])
      await cursor.close()
      const closed = client.query(new Cursor(million))
      assert.equal((await closed.read(10)).length, 10)
      await closed.close()
      assert.equal(await value(client, 'SELECT 1::int'), 1)
      const wrong = client.query(new Cursor('SELECT * FROM nowhere'))
      assert.equal((await refused(wrong.read(1))).code, '42P01')
      assert.equal(await value(client, 'SELECT 1::int'), 1)
    })
  },

  async stream () {
    await connected(async client => {
      let [seen, sum] = [0, 0]
      for await (const row of client.query(new QueryStream(million, [], { batchSize: 10000 }))) {
        seen += 1
        sum += Number(row.n)
      }
      assert.deepEqual([seen, sum], [1000000, sumOfMillion])
      for await (const row of client.query(new QueryStream(million))) {
        assert.equal(row.n, '1')
        break
      }
      assert.equal(await value(client, 'SELECT 1::int'), 1)
    })
  },

  async cancel () {
    await connected(async client => {
      const query = new pg.Query(endless)
      const ended = new Promise((resolve, reject) => { query.callback = (e, result) => e ? reject(e) : resolve(result) })
      client.query(query)
      // One that comes before the query runs is for nothing.
      const again = setInterval(() => new pg.Client({ ssl }).cancel(client, query), 200)
      const e = await refused(ended).finally(() => clearInterval(again))
      assert.equal(e.code, '57014')
      assert.equal(await value(client, 'SELECT 1::int'), 1)
    })
    await connected(async client => {
      assert.equal((await refused(client.query(endless))).code, '57014')
      assert.equal(await value(client, 'SELECT 1::int'), 1)
    }, { statement_timeout: 500 })
  },

  async error () {
    await connected(async client => {
      for (const [text, code, position] of [
        ["SELECT 'é', nothing FROM types", '42703', '13'], ['SELECT * FROM nowhere', '42P01', '15'],
        ['SELECT nothing(1)', '42883', '8'], ['SELECT id FRM types x', '42601', null],
        ['SELECT 1 / (id - 1) FROM types', '22012', undefined], ["INSERT INTO notes (note) VALUES ('x')", '23502', undefined]
      ]) {
        for (const query of [text, { text, name: code }]) {
          const e = await refused(client.query(query))
          assert.ok(e instanceof pg.DatabaseError, e)
          assert.deepEqual([e.code, e.severity], [code, 'ERROR'], text)
          if (position !== null) assert.equal(e.position, position, text)
        }
        assert.equal(await value(client, 'SELECT 1::int'), 1)
      }
      await client.query('BEGIN')
      await refused(client.query('SELECT * FROM nowhere'))
      assert.equal((await refused(client.query('SELECT $1', [1]))).code, '25P02')
      await client.query('ROLLBACK')
      assert.equal(await value(client, 'SELECT 1::int'), 1)
    })
  },

  async copy () {
    await connected(async client => {
      await client.query('DELETE FROM notes')
      const lines = Array.from({ length: 10000 }, (_, i) => `${i},"note ""${i}"""\n`)
      const writing = client.query(copyFrom('COPY notes (id, note) FROM STDIN (FORMAT csv)'))
      await piped(Readable.from(lines), writing)
      assert.equal(writing.rowCount, 10000)
      let text = ''
      const reading = client.query(copyTo('COPY (SELECT id, note FROM notes ORDER BY id) TO STDOUT (FORMAT csv)'))
      await piped(reading, new Writable({ write (chunk, _, done) { text += chunk; done() } }))
      assert.equal(text, lines.join(''))
      assert.equal(reading.rowCount, 10000)
      await client.query('DELETE FROM notes')
      const wrong = client.query(copyFrom('COPY notes (id, note) FROM STDIN'))
      assert.equal((await refused(piped(Readable.from(['1\tx\none\tx\n']), wrong))).code, '22P02')
      assert.equal(await count(client), 0)
    })
  },

  async transaction () {
    await connected(async client => {
      await client.query('DELETE FROM notes')
      await client.query('BEGIN')
      await client.query('INSERT INTO notes (id) VALUES ($1)', [1])
      assert.equal(await count(client), 1)
      await client.query('ROLLBACK')
      assert.equal(await count(client), 0)
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
      await client.query('INSERT INTO notes (id) VALUES ($1), ($2)', [1, 2])
      await client.query('SAVEPOINT s')
      await client.query('INSERT INTO notes (id) VALUES ($1)', [3])
      await client.query('ROLLBACK TO SAVEPOINT s')
      await connected(async other => assert.equal(await count(other), 0))
      await client.query('COMMIT')
      await connected(async other => assert.equal(await count(other), 2))
      const results = await client.query('BEGIN; INSERT INTO notes (id) VALUES (4); COMMIT; SELECT count(*) AS n FROM notes')
      assert.deepEqual(results.map(r => r.command), ['BEGIN', 'INSERT', 'COMMIT', 'SELECT'])
      assert.equal(results[3].rows[0].n, '3')
    })
  },

  async batch () {
    await connected(async client => {
      await client.query('DELETE FROM notes')
      const marks = notes.map((_, i) => `($${4 * i + 1}, $${4 * i + 2}, $${4 * i + 3}, $${4 * i + 4})`)
      const { rowCount } = await client.query(`INSERT INTO notes VALUES ${marks.join(', ')}`, notes.flat())
      assert.equal(rowCount, 1000)
      assert.deepEqual(await arrays(client, 'SELECT * FROM notes ORDER BY id'), notes)
      await client.query('DELETE FROM notes')
      const [ids, texts] = [notes.map(n => n[0]), notes.map(n => n[1])]
      await client.query('INSERT INTO notes (id, note) SELECT unnest($1::bigint[]), unnest($2::text[])', [ids, texts])
      assert.deepEqual(await arrays(client, 'SELECT id, note FROM notes ORDER BY id'), notes.map(n => n.slice(0, 2)))
    })
  },

  async named_statement () {
    await connected(async client => {
      for (let i = 0; i < 5; i++) {
        const { rows } = await client.query({ name: 'plus', text: 'SELECT n + $1 AS sum FROM types WHERE id = $2', values: [i, 2] })
        assert.equal(rows[0].sum, (i - 0.0001).toFixed(4))
      }
    })
  },

  async prepared_statements () {
    await connected(async client => {
      await client.query({ name: 'one', text: 'SELECT 1' })
      assert.deepEqual(await arrays(client, 'SELECT name, statement FROM pg_prepared_statements'), [['one', 'SELECT 1']])
    })
  },

  async pipeline () {
    await connected(async client => {
      await client.query('DELETE FROM notes')
      const sent = [
        client.query('INSERT INTO notes (id) VALUES ($1)', [1]), refused(client.query('SELECT * FROM nowhere')),
        client.query({ name: 'c', text: 'SELECT count(*) AS n FROM notes WHERE id = $1', values: [1] }), client.query('SELECT 1::int AS one')
      ]
      const [, wrong, counted, one] = await Promise.all(sent)
      assert.deepEqual([wrong.code, counted.rows[0].n, one.rows[0].one], ['42P01', '1', 1])
    }, { pipeline: true })
  },

  async pool () {
    const pool = new pg.Pool({ ssl, max: 1 })
    await pool.query('DELETE FROM notes')
    const first = await pool.connect()
    const { processID } = first
    await first.query('SET TIME ZONE \'Asia/Kolkata\'')
    first.release()
    // The pool resets nothing: that is for its user to do.
    const second = await pool.connect()
    assert.equal(second.processID, processID)
    assert.equal(await value(second, 'SHOW timezone'), 'Asia/Kolkata')
    await second.query('DISCARD ALL')
    assert.notEqual(await value(second, 'SHOW timezone'), 'Asia/Kolkata')
    second.release()
    await Promise.all(Array.from({ length: 20 }, (_, i) => pool.query('INSERT INTO notes (id) VALUES ($1)', [i])))
    assert.equal(Number((await pool.query('SELECT count(*) AS n FROM notes')).rows[0].n), 20)
    // One that is destroyed is replaced.
    const third = await pool.connect()
    third.release(true)
    assert.equal((await pool.query('SELECT 1::int AS one')).rows[0].one, 1)
    await pool.end()
  }
})
