// How the pipeline is: one line that says ok or what is wrong, a few figures, and below all that the server says of itself.

import { $, el, set, setText, show, sync } from './dom.js'
import { age, moment, number, rate, setNow, span } from './format.js'
import { renderTables } from './tables.js'

// What is wrong, and what is only worth knowing (`note`): [{text, hint, note}].
function findings ({ ready, checks, pipelines, ledger, rollups, leaderboards, jobs, dead_letters: dead }) {
  const found = []
  const wrong = (text, hint) => found.push({ text, hint })
  const note = text => found.push({ text, note: true })
  const because = reason => reason ? `: ${reason}` : ''
  const failing = new Set(checks.filter(c => !c.ok).map(c => c.name)) // what a check says is not said twice

  for (const c of checks.filter(c => !c.ok)) wrong(`${c.name}${because(c.message ?? 'not ok')}`, c.hint)
  if (!ready && found.length === 0) wrong('the server is not ready')
  for (const p of pipelines.filter(p => p.state !== 'running')) {
    const text = `pipeline ${p.name} is ${p.state}${because(p.reason)}`
    if (['paused', 'waiting'].includes(p.state)) note(text)
    else if (!failing.has('ingest')) wrong(text)
  }
  for (const l of ledger.filter(l => !l.balanced)) {
    wrong(`ledger of ${l.table}: ${number(l.consumed)} consumed, ${number(l.stored + l.duplicate + l.dead + l.late)} accounted for`)
  }
  for (const view of [...rollups, ...leaderboards].filter(v => v.last_error)) wrong(`${view.name}${because(view.last_error)}`)
  if (!failing.has('jobs')) {
    for (const j of jobs.filter(j => j.state === 'failed')) wrong(`job ${j.job} of ${j.object} failed${because(j.error)}`)
  }
  for (const { name, age_seconds: old, refresh_every_seconds: every } of leaderboards) {
    if (every && old > 5 * every + 10) note(`${name} is ${span(old)} old, due every ${span(every)}`)
  }
  for (const d of dead.filter(d => d.rows > 0)) note(`${number(d.rows)} dead ${d.rows === 1 ? 'letter' : 'letters'} of ${d.table}`)
  return found
}

export function renderHealth (status, table) {
  setNow(status.now)
  show($('pulse'), true)
  show($('health'), true)
  const found = findings(status)
  const wrong = found.filter(f => !f.note)
  const notes = found.filter(f => f.note)
  const ok = wrong.length === 0
  const more = wrong.length > 1 ? ` (and ${wrong.length - 1} more)` : ''
  summarise(ok, ok
    ? `All is well${notes.length > 0 ? ` · to note: ${notes.map(n => n.text).join(', ')}` : ''}`
    : `${wrong[0].text}${more}${wrong[0].hint ? ` – ${wrong[0].hint}` : ''}`)
  setText($('server'), `toplake ${status.version}, up for ${span(status.uptime_seconds)}`)

  sync($('problems'), found, f => f.text, () => el('li', {}, el('strong'), el('span')), (li, f) => {
    set(li, { class: f.note ? 'note' : 'wrong' })
    setText(li.firstChild, `${f.note ? '!' : '✗'} ${f.text}`)
    setText(li.lastChild, f.hint ?? '')
  })
  sync($('figures'), figures(status, table), f => f.name, () => el('div', {}, el('dt'), el('dd')), (div, f) => {
    setText(div.firstChild, f.name)
    setText(div.lastChild, f.text)
    set(div, { class: f.bad ? 'bad' : null, title: f.title })
  })
  renderTables($('health-tables'), status)
}

// What was well is not known to be so while the server does not say.
export function renderUnknown (why) {
  show($('pulse'), true)
  summarise(false, why)
}

function summarise (ok, text) {
  set($('health-summary'), { 'data-ok': String(ok) })
  setText($('health-summary').querySelector('.mark'), ok ? '✓' : '✗')
  setText($('health-text'), text)
}

// The figures of the chosen table, in the order in which an event goes through the stages.
function figures (status, chosen) {
  const of = (list, field) => list.filter(x => x[field] === chosen?.name)
  const sum = (list, field) => list.some(x => x[field] !== null) ? list.reduce((all, x) => all + (x[field] ?? 0), 0) : null
  const most = (list, field) => list.length > 0 ? Math.max(...list.map(x => x[field] ?? 0)) : null
  const events = of(status.tables, 'name')[0]
  const pipelines = of(status.pipelines, 'table')
  const rollups = status.rollups.filter(r => chosen?.rollups.some(own => own.name === r.name))
  const ledger = of(status.ledger, 'table')
  const dead = sum(of(status.dead_letters, 'table'), 'rows') ?? 0
  const lag = sum(pipelines, 'lag')
  const balanced = ledger.every(l => l.balanced)
  const figure = (name, text, title, bad = false) => ({ name, text, title, bad })
  return [
    figure('rate', rate(events?.rows_per_second), 'rows stored each second'),
    figure('ingest lag', lag === null ? '–' : `${number(lag)} messages`,
      pipelines.length > 0 ? 'messages that wait to be consumed' : 'no pipeline brings rows into this table'),
    figure('rollup lag', span(most(rollups, 'lag_seconds')),
      'age of what waits longest to be folded; answers count it all the same'),
    figure('leaderboard age', span(most(status.leaderboards, 'age_seconds')), 'since the oldest leaderboard was refreshed'),
    figure('watermark', events?.watermark ? `${span(age(events.watermark))} ago` : '–',
      `events are taken to be complete through ${moment(events?.watermark)}`),
    figure('late rows', number(events?.late_rows), 'rows that the watermark had passed'),
    figure('dead letters', number(dead), 'rows that could not be stored', dead > 0),
    figure('ledger', ledger.length === 0 ? '–' : balanced ? '✓ balanced' : '✗ off',
      'consumed = stored + duplicate + dead + late', !balanced)
  ]
}
