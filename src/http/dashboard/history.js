// The history of one key, or of all: a bar for each bucket, hatched where it is not complete yet, and the same as a table.

import { $, el, set, setText, show, showProblem, sync } from './dom.js'
import { bucket, compact, moment, name, number, tick } from './format.js'
import { Problem, get, query } from './api.js'
import { selection } from './choices.js'
import { barChart } from './chart.js'

let shown = null // {question, answer, series, open, period, zone}
let pointed = null // the bucket that the tip is of

const chart = barChart($('chart'), pointAt)

export function historyQuestion (found) {
  if (!found.historyRollup || (found.item === undefined && found.measure.kind === 'top_items')) return null
  const one = found.item === undefined ? {} : { key: found.key, item: found.item }
  return query('/v1/history', { rollup: found.historyRollup.name, ...one, ...selection(found), last: found.range.last })
}

export async function updateHistory (found, signal) {
  const question = historyQuestion(found)
  renderTitle(found)
  if (!question) return clear(found)
  if (shown?.question !== question) set($('history'), { 'aria-busy': 'true' })
  try {
    const answer = await get(question, signal)
    showProblem($('history-problem'), null)
    render(found, question, answer)
  } catch (e) {
    if (signal.aborted) throw e
    showProblem($('history-problem'), e instanceof Problem ? e : null)
    if (shown?.question !== question) clear(found)
    throw e
  } finally {
    if (!signal.aborted) set($('history'), { 'aria-busy': 'false' })
  }
}

function renderTitle (found) {
  const one = found.item !== undefined
  const filters = found.filters.filter(f => f.value !== '').map(f => f.value)
  setText($('history-title'), `History of ${one ? name(found.item) : 'all'}${filters.length > 0 ? `, ${filters.join(', ')}` : ''}`)
  show($('all'), one)
}

function clear (found) {
  shown = null
  chart.moveTo(null)
  show($('chart'), false)
  sync($('points'), [], p => p)
  sync($('legend'), [], p => p)
  set($('history'), { 'data-item': null, 'data-range': null })
  setText($('history-sum'), found.measure.kind === 'top_items' ? 'Choose a row to see its history.' : '')
}

function render (found, question, answer) {
  const series = answer.series[0] ?? { values: [] }
  const { buckets, complete_through: through } = answer
  const { period, time_zone: zone } = found.historyRollup
  const open = i => !through || Date.parse(buckets[i]) >= Date.parse(through)
  if (shown?.question !== question) chart.moveTo(null)
  shown = { question, answer, series, open, period, zone }

  show($('chart'), buckets.length > 0)
  chart.draw({
    buckets,
    values: series.values,
    lower: series.lower,
    upper: series.upper,
    open,
    tick: i => tick(buckets[i], period, zone),
    format: compact
  })
  set($('chart'), { 'aria-label': `${found.measure.name} by ${period}, ${buckets.length} bars; arrow keys move along them` })
  set($('history'), { 'data-item': found.item ?? null, 'data-range': found.range.value })
  setText($('history-sum'), sumText(found, series.values, buckets, period, zone))
  const legend = []
  if (buckets.some((_, i) => !open(i))) legend.push({ kind: 'closed', text: 'complete' })
  if (buckets.some((_, i) => open(i))) {
    legend.push({ kind: 'open', text: `not complete yet: ${through ? `after ${moment(through, zone)}` : 'more may come'}` })
  }
  if (series.lower) legend.push({ kind: 'bounded', text: 'the truth lies within the bounds' })
  sync($('legend'), legend, l => l.kind, l => el('li', { class: l.kind }), (li, l) => setText(li, l.text))
  const latestFirst = buckets.map((_, i) => i).reverse()
  sync($('points'), latestFirst, i => buckets[i], () => el('tr', {}, el('td'), el('td', { class: 'number' }), el('td')), (tr, i) => {
    setText(tr.children[0], bucket(buckets[i], period, zone))
    setText(tr.children[1], valueText(i))
    setText(tr.children[2], open(i) ? 'not yet' : 'yes')
  })
  if (pointed !== null) tip()
}

function valueText (i) {
  const { answer, series } = shown
  const value = number(series.values[i])
  if (series.lower && series.lower[i] !== series.upper[i]) return `≈ ${value} (${number(series.lower[i])} – ${number(series.upper[i])})`
  return answer.approximate && series.values[i] !== null ? `≈ ${value}` : value
}

// The sum where the measure adds up, and the highest bar.
function sumText (found, values, buckets, period, zone) {
  const numbers = values.map(Number)
  if (values.every(value => value === null)) return 'Nothing in this time.'
  const peak = numbers.indexOf(Math.max(...numbers))
  const adds = ['sum', 'count'].includes(found.measure.function)
  const sum = adds ? `${found.measure.name} ${number(numbers.reduce((a, b) => a + b, 0))} in all · ` : ''
  return `${sum}most: ${valueText(peak)}, ${bucket(buckets[peak], period, zone)}`
}

function pointAt (index, x) {
  pointed = index
  show($('tip'), index !== null)
  if (index === null) return
  tip()
  const half = $('tip').offsetWidth / 2
  $('tip').style.left = `${$('chart').offsetLeft + Math.min(Math.max(x, half), $('chart').clientWidth - half)}px`
  $('tip').style.top = `${$('chart').offsetTop}px`
}

function tip () {
  const { answer, open, period, zone } = shown
  setText($('tip'), `${bucket(answer.buckets[pointed], period, zone)}: ${valueText(pointed)}${open(pointed) ? ', not complete yet' : ''}`)
}
