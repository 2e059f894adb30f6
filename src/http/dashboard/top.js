// The top 10: what leads, by how much, and whether it moves.

import { $, el, set, setText, show, showProblem, sync } from './dom.js'
import { columnFormat, name, number, share } from './format.js'
import { Problem, get, query } from './api.js'
import { selection } from './choices.js'
import { drawSparkline, sparkline } from './chart.js'
import { leadText, noteText, rangeText, trustLine } from './words.js'

const ROWS = 10
const MOST = 25 // with those that tie with the tenth

let shown = null // {question, answer}: what the rows show now; the answer is null if there is none
let selected // the key whose history is shown
let trends = null // {question, history}

export function topQuestion (found) {
  return query('/v1/top', {
    rollup: found.rollup.name, key: found.key, ...selection(found), n: ROWS, last: found.period.last, previous: true
  })
}

// Whether the rows are those of another question than before.
export async function updateTop (found, signal) {
  const question = topQuestion(found)
  const other = shown?.question !== question
  set($('top'), { 'aria-busy': String(other) })
  try {
    const answer = await get(question, signal)
    showProblem($('top-problem'), null)
    render(found, question, answer)
    return other
  } catch (e) {
    if (signal.aborted) throw e
    showProblem($('top-problem'), e instanceof Problem ? e : null)
    if (other) render(found, question, null) // other numbers stay, these would be wrong
    throw e
  } finally {
    if (!signal.aborted) set($('top'), { 'aria-busy': 'false' })
  }
}

// The course of each row, from the same rollup.
export async function updateTrends (found, signal) {
  const items = shown?.answer?.rows.slice(0, MOST).map(row => row.key).filter(key => key !== null) ?? []
  if (items.length === 0 || shown.question !== topQuestion(found)) return
  const question = query('/v1/history', {
    rollup: found.rollup.name, key: found.key, item: items, ...selection(found), last: found.period.last.replace(/^\d+/, found.period.trend)
  })
  const of = shown.question
  trends = { question: of, history: await get(question, signal) }
  for (const row of $('rows').children) drawTrend(row)
}

function render (found, question, answer) {
  const same = shown?.question === question
  shown = { question, answer }
  const rows = answer?.rows.slice(0, MOST) ?? []
  setText($('column-key'), found.key)
  setText($('column-value'), found.measure.name)
  setText($('column-trend'), `last ${found.period.trend} ${found.period.period}s`)
  setText($('top-range'), answer ? rangeText(found, answer) : '')
  show($('columns'), rows.length > 0)
  $('top').classList.toggle('no-total', answer?.total === null)
  setText($('lead'), answer ? leadText(found, answer) : '')
  setText($('top-note'), noteText(answer, rows.length))
  const trust = answer ? trustLine(found, answer) : []
  sync($('trust'), trust, part => part.id, part => el(part.sign ? 'strong' : 'span'), (node, part) => {
    setText(node, part.text)
    set(node, { class: part.sign })
  })

  const scale = Math.max(...rows.map(row => Math.abs(row.upper ?? row.value)), 0) || 1
  const format = columnFormat(rows.map(row => row.value))
  const before = positions()
  sync($('rows'), rows, row => row.key, makeRow, (node, row) => renderRow(node, row, { found, answer, scale, format, same }))
  const values = [...$('rows').querySelectorAll('.value')].map(value => value.textContent.length)
  $('top').style.setProperty('--value', Math.max(found.measure.name.length, ...values)) // one width, so that bars are on one scale
  markSelected(selected)
  if (same) slide(before)
}

// The row whose history is shown.
export function markSelected (item) {
  selected = item
  for (const { dataset, firstChild: button } of $('rows').children) {
    set(button, { 'aria-pressed': String(!button.disabled && item === dataset.key) })
  }
}

function makeRow () {
  const button = el('button', { type: 'button', class: 'row' },
    el('span', { class: 'rank' }), el('span', { class: 'moved' }), el('span', { class: 'key' }),
    el('span', { class: 'bar' }, el('span', { class: 'length' }), el('span', { class: 'bounds' })),
    el('span', { class: 'value number', 'data-testid': 'value' }),
    el('span', { class: 'share number' }), sparkline())
  return el('li', { 'data-testid': 'top-row' }, button)
}

function renderRow (node, row, { found, answer, scale, format, same }) {
  const button = node.firstChild
  const [rank, moved, key, bar, value, part] = button.children
  set(node, { 'data-key': row.key, 'data-rank': row.rank })
  setText(rank, String(row.rank))
  const move = movement(row)
  set(moved, { 'data-move': move.kind, title: move.long })
  setText(moved, move.text)
  setText(key, name(row.key))
  set(key, { title: name(row.key) })

  const uncertain = row.lower !== row.upper
  const text = `${uncertain ? '≈ ' : ''}${format(row.value)}`
  if (same && value.textContent !== text && value.dataset.value) flash(value)
  setText(value, text)
  const bounds = uncertain ? `between ${number(row.lower)} and ${number(row.upper)}` : null
  set(value, { 'data-value': row.value, title: bounds ?? String(row.value) })
  const percent = n => `${Math.min(100, Math.abs(n) / scale * 100)}%`
  bar.firstChild.style.width = percent(row.value)
  bar.classList.toggle('negative', row.value < 0)
  show(bar.lastChild, uncertain)
  if (uncertain) {
    bar.lastChild.style.left = percent(row.lower)
    bar.lastChild.style.width = `${(row.upper - row.lower) / scale * 100}%`
  }
  setText(part, share(row.value, answer.total))

  const ofAll = answer.total && `${part.textContent} of all`
  const label = [`rank ${row.rank}`, name(row.key), `${found.measure.name} ${text}`, bounds, ofAll, move.long]
  set(button, { 'aria-label': label.filter(Boolean).join(', ') })
  button.disabled = row.key === null
  drawTrend(node)
}

function drawTrend (node) {
  const spark = node.querySelector('.spark')
  const known = trends?.question === shown.question
  const series = known && trends.history.series.find(s => String(s.item) === node.dataset.key)
  if (!series) return known || drawSparkline(spark, [], 0)
  const { buckets, complete_through: through } = trends.history
  const firstOpen = buckets.findIndex(b => !through || Date.parse(b) >= Date.parse(through))
  drawSparkline(spark, series.values, firstOpen < 0 ? buckets.length : firstOpen)
}

function movement ({ rank, previous }) {
  if (!previous) return { kind: 'new', text: 'new', long: 'not there in the period before' }
  const before = `rank ${previous.rank} with ${number(previous.value)} in the period before`
  if (previous.rank > rank) return { kind: 'up', text: `▲${previous.rank - rank}`, long: `up from ${before}` }
  if (previous.rank < rank) return { kind: 'down', text: `▼${rank - previous.rank}`, long: `down from ${before}` }
  return { kind: 'same', text: '=', long: `was ${before}` }
}

const still = matchMedia('(prefers-reduced-motion: reduce)')

function flash (node) {
  if (!still.matches) node.animate([{ color: getComputedStyle(node).getPropertyValue('--accent') }, {}], 1200)
}

function positions () {
  return new Map([...$('rows').children].map(node => [node, node.offsetTop]))
}

// A row that has changed its rank slides to its new place.
function slide (before) {
  if (still.matches) return
  for (const node of $('rows').children) {
    const way = (before.get(node) ?? node.offsetTop) - node.offsetTop
    if (way !== 0) node.animate([{ transform: `translateY(${way}px)` }, { transform: 'none' }], { duration: 350, easing: 'ease-out' })
  }
}
