// All that the server says of itself, as tables.

import { el, set, setText, sync } from './dom.js'
import { moment, number, rate, span } from './format.js'

// Columns: text, a number, a time, a state, or words, which may wrap and are left out where there are none.
const plain = (title, read) => ({ title, read: row => read(row) ?? '–' })
const count = (title, read) => ({ title, read: row => number(read(row)), kind: 'number' })
const lasts = (title, read) => ({ title, read: row => span(read(row)), kind: 'number' })
const time = (title, read) => ({ title, read: row => moment(read(row)) })
const state = (title, read) => ({ title, read: row => SIGNS[read(row)] ?? String(read(row)) })
const words = (title, read) => ({ title, read: row => read(row) ?? '–', kind: 'long' })

const SIGNS = {
  true: '✓ ok',
  false: '✗ not ok',
  ready: '✓ ready',
  building: '… building',
  running: '▶ running',
  done: '✓ done',
  paused: '❚❚ paused',
  waiting: '… waiting',
  pending: '… pending',
  cancelled: '– cancelled',
  failed: '✗ failed',
  stopped: '✗ stopped',
  lost: '✗ lost'
}

// Each: its name, the list of the status that it shows, what tells its rows apart, and its columns.
const TABLES = [
  ['Readiness', 'checks', c => c.name, [
    plain('check', c => c.name), state('state', c => c.ok), words('message', c => c.message), words('what to do', c => c.hint)
  ]],
  ['Tables', 'tables', t => t.name, [
    plain('table', t => t.name), count('rows', t => t.rows), { title: 'rate', read: t => rate(t.rows_per_second), kind: 'number' },
    count('late rows', t => t.late_rows), time('latest event', t => t.last_event_time), time('watermark', t => t.watermark),
    count('version', t => t.version)
  ]],
  ['Pipelines', 'pipelines', p => [p.name, p.table, p.host], [
    plain('pipeline', p => p.name), plain('into', p => p.table), state('state', p => p.state), count('lag', p => p.lag),
    count('consumed/s', p => p.consumed_per_second), plain('errors', p => `${number(p.errors)} of ${number(p.window)}`),
    time('since', p => p.since), words('reason', p => p.reason)
  ]],
  ['Rollups', 'rollups', r => r.name, [
    plain('rollup', r => r.name), plain('from', r => r.source), state('state', r => r.status), lasts('lag', r => r.lag_seconds),
    count('rows to fold', r => r.lag_rows), time('complete through', r => r.complete_through), words('error', r => r.last_error)
  ]],
  ['Leaderboards', 'leaderboards', b => b.name, [
    plain('leaderboard', b => b.name), count('rows', b => b.rows), lasts('age', b => b.age_seconds),
    lasts('every', b => b.refresh_every_seconds), time('last refresh', b => b.last_refresh), words('error', b => b.last_error)
  ]],
  ['Ledger', 'ledger', l => l.table, [
    plain('table', l => l.table), { title: 'balance', read: l => l.balanced ? '✓ balanced' : '✗ off' },
    count('consumed', l => l.consumed), count('stored', l => l.stored), count('duplicate', l => l.duplicate),
    count('dead', l => l.dead), count('late', l => l.late)
  ]],
  ['Dead letters', 'dead_letters', d => d.table, [
    plain('table', d => d.table), count('rows', d => d.rows), time('latest', d => d.latest)
  ]],
  ['Jobs', 'jobs', j => [j.job, j.object], [
    plain('job', j => j.job), plain('of', j => j.object), state('state', j => j.state), time('begun', j => j.begun),
    time('next', j => j.next), count('rows', j => j.rows), words('error', j => j.error)
  ]]
]

export function renderTables (host, status) {
  const tables = TABLES.filter(([, list]) => status[list].length > 0).map(([name, list, keyOf, columns]) => {
    const rows = status[list]
    return { name, rows, keyOf, columns: columns.filter(c => c.kind !== 'long' || rows.some(row => c.read(row) !== '–')) }
  })
  sync(host, tables, t => [t.name, t.columns.length], makeTable, fillTable)
}

function makeTable ({ name, columns }) {
  const heads = columns.map(({ title, kind }) => el('th', { scope: 'col', class: kind }, title))
  return el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': name },
    el('table', {}, el('caption', {}, name), el('thead', {}, el('tr', {}, ...heads)), el('tbody')))
}

function fillTable (node, { columns, rows, keyOf }) {
  const makeRow = () => el('tr', {}, ...columns.map(() => el('td')))
  sync(node.querySelector('tbody'), rows, keyOf, makeRow, (tr, row) => {
    columns.forEach(({ read, kind }, i) => {
      const text = read(row)
      setText(tr.children[i], text)
      set(tr.children[i], { class: text.startsWith('✗') ? 'bad' : kind })
    })
  })
}
