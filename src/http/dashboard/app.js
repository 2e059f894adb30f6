// The dashboard: keeps what is chosen and what the server says together, in the page and in its address.

import { $, set, setText, show } from './dom.js'
import { clock } from './format.js'
import { Problem, get, repeat, setAskToken, watchConnection } from './api.js'
import { fromHash, resolve, toHash } from './choices.js'
import { askToken, renderControls, renderWelcome, startControls } from './controls.js'
import { renderHealth, renderUnknown } from './health.js'
import { markSelected, topQuestion, updateTop, updateTrends } from './top.js'
import { historyQuestion, updateHistory } from './history.js'

const NO_TABLE = {
  title: 'There is no table of events yet',
  lines: ['Sample sales, past and live, are one command away:', { code: 'toplake demo' },
    'Or make a table of your own, over psql:', {
      code: `CREATE TABLE sales (event_time TIMESTAMP NOT NULL, product_id VARCHAR, quantity BIGINT)
  WITH (time_column = 'event_time', allowed_lateness = '15 minutes');`
    }, 'This page goes on by itself.']
}

const noRollup = ({ name, time_column: time }) => ({
  title: `There is no rollup of ${name} yet`,
  lines: ['The top 10 and the history are made from rollups by minute, hour, day, week, month or year, for example:', {
    code: `CREATE MATERIALIZED VIEW ${name}_daily AS
  SELECT time_bucket(INTERVAL '1 day', ${time}) AS bucket, product_id, sum(quantity) AS quantity
  FROM ${name} GROUP BY 1, 2;`
  }, 'with a key and a measure of yours. This page goes on by itself.']
})

let catalog = null
let status = null
let wanted = fromHash(location.hash) // what the address or the user asks for
let found = null // what there is of it

function apply () {
  if (!catalog) return
  const before = { ...questions(), table: found?.table?.name }
  found = resolve(catalog, wanted)
  const ready = Boolean(found.measure)
  renderControls(found)
  renderWelcome(!found.table ? NO_TABLE : ready ? null : noRollup(found.table))
  show(document.querySelector('main'), ready)
  if (status && before.table !== found.table?.name) renderHealth(status, found.table)
  const after = questions()
  markSelected(found.item)
  if (after.top !== before.top) top()
  if (after.history !== before.history) history()
}

function questions () {
  return found?.measure ? { top: topQuestion(found), history: historyQuestion(found) } : {}
}

// What somebody chose, beside all that was chosen before; another table begins anew.
function choose (change) {
  const filters = Object.fromEntries(found.filters?.map(f => [f.name, f.value]) ?? [])
  const before = change.table ? {} : {
    table: found.table.name,
    key: found.key,
    measure: found.measure.name,
    period: found.period.value,
    item: change.key ? undefined : found.item,
    range: change.period ? undefined : found.range?.value
  }
  wanted = { ...before, ...change, filters: change.table ? {} : { ...filters, ...change.filters } }
  apply()
  window.history.replaceState(null, '', toHash(found))
}

const top = repeat(async signal => { if (found?.measure && await updateTop(found, signal)) trends() }, 2000)
const trends = repeat(async signal => { if (found?.measure) await updateTrends(found, signal) }, 5000)
const history = repeat(async signal => { if (found?.measure) await updateHistory(found, signal) }, 5000)
const health = repeat(async signal => {
  try {
    status = await get('/v1/status', signal)
    renderHealth(status, found?.table)
  } catch (e) {
    if (e instanceof Problem) renderUnknown(e.text)
    throw e
  }
}, 3000)
const tables = repeat(async signal => {
  try {
    catalog = await get('/v1/catalog', signal)
    apply()
  } catch (e) {
    if (e instanceof Problem && !catalog) renderWelcome({ title: 'The tables cannot be read', lines: [e.text] })
    throw e
  }
}, 5000)

watchConnection((state, since) => {
  set($('connection'), { 'data-state': state })
  set(document.body, { 'data-stale': state === 'away' ? '' : null })
  setText($('connection'), state === 'live' ? '● live' : `○ server away since ${clock(since)}, retrying`)
  if (state === 'away') renderUnknown('The server does not answer')
})

window.addEventListener('hashchange', () => {
  wanted = fromHash(location.hash)
  apply()
})
// Links inside the page move the focus; the address is for what is chosen.
document.addEventListener('click', e => {
  const link = e.target.closest('[data-skip]')
  if (!link) return
  e.preventDefault()
  $(link.hash.slice(1)).focus()
})

setAskToken(askToken)
startControls(choose)
for (const start of [tables, health, top, trends, history]) start()
