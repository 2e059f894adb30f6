// The selects and the filters: shows what is chosen, and says when somebody chooses otherwise.

import { $, el, set, setOptions, setText, show, sync } from './dom.js'
import { get, query } from './api.js'

const SUGGESTIONS = 50
const FRESH = 60_000 // milliseconds for which the suggestions of a filter are good

// `choose(change)` is called with what somebody chose: {table}, {key}, {filters: {name: value}}, …
let choose

export function startControls (onChoice) {
  choose = onChoice
  for (const name of ['key', 'measure', 'period', 'range']) $(name).addEventListener('change', e => choose({ [name]: e.target.value }))
  $('table').addEventListener('change', e => choose({ table: e.target.value }))
  $('all').addEventListener('click', () => {
    $('history').focus({ preventScroll: true }) // the button goes away
    choose({ item: undefined })
  })
  $('rows').addEventListener('click', e => {
    const row = e.target.closest('li')
    if (row) choose({ item: row.querySelector('[aria-pressed=true]') ? undefined : row.dataset.key })
  })
  $('controls').addEventListener('submit', e => e.preventDefault())
}

export function renderControls (found) {
  show($('table-label'), found.tables.length > 1)
  setOptions($('table'), found.tables, found.table?.name)
  if (!found.measure) return
  setOptions($('key'), found.keys, found.key)
  setOptions($('measure'), found.measures, found.measure.name)
  setOptions($('period'), found.periods, found.period.value)
  setOptions($('range'), found.ranges, found.range?.value)
  sync($('filters'), found.filters, f => `${found.rollup.name} ${f.name}`, f => makeFilter(f.name), (label, filter) => {
    const input = label.querySelector('input')
    if (input.dataset.value !== filter.value) input.value = input.dataset.value = filter.value // else somebody may be typing
    label.classList.toggle('active', filter.value !== '')
    input.found = found
  })
}

// Any value can be typed; the leading ones are suggested.
function makeFilter (name) {
  const list = el('datalist', { id: `values-of-${name}` })
  const input = el('input', {
    type: 'search', list: list.id, placeholder: 'any', 'data-filter': name, autocomplete: 'off', spellcheck: 'false'
  })
  const apply = () => choose({ filters: { [name]: input.value } })
  input.addEventListener('input', e => {
    const picked = e.inputType === undefined || e.inputType === 'insertReplacementText'
    if (picked || input.value === '') apply()
  })
  input.addEventListener('change', apply)
  let asked = -Infinity
  const suggest = async () => {
    if (performance.now() - asked < FRESH) return
    asked = performance.now()
    try {
      const { rollup, period } = input.found
      const question = query('/v1/top', { rollup: rollup.name, key: name, n: SUGGESTIONS, last: period.last })
      const { rows } = await get(question, new AbortController().signal)
      const values = rows.map(row => row.key).filter(key => key !== null && key !== '').slice(0, SUGGESTIONS)
      sync(list, values, v => v, v => el('option', { value: v }), () => {})
    } catch { // without suggestions then; whatever is wrong, the top 10 says it
      asked = -Infinity
    }
  }
  input.addEventListener('focus', suggest)
  input.addEventListener('pointerenter', suggest)
  return el('label', { class: 'field' }, el('span', {}, name), ' ', input, list)
}

// The form that asks for a token; fulfilled with it.
export function askToken (refused) {
  const dialog = $('token-dialog')
  show($('token-refused'), refused)
  $('token').value = ''
  dialog.showModal()
  return new Promise(resolve => {
    dialog.addEventListener('cancel', e => e.preventDefault())
    $('token-form').addEventListener('submit', () => resolve($('token').value), { once: true })
  })
}

// What there is to do in a warehouse that has no table or no rollup yet, or cannot be read. Null: nothing, go on.
export function renderWelcome (what) {
  show($('welcome'), Boolean(what))
  if (!what) return
  if ($('welcome').dataset.shown === JSON.stringify(what)) return
  set($('welcome'), { 'data-shown': JSON.stringify(what) })
  const parts = what.lines.map(line => line.code ? el('pre', {}, el('code', {}, line.code)) : el('p', {}, line))
  $('welcome').replaceChildren(el('h2', {}, what.title), ...parts)
  setText($('trust'), '')
}
