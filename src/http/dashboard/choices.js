// What can be chosen: from the catalog and what was asked for (by a link, or by hand) to what is shown.

const UNITS = { minute: 'm', hour: 'h', day: 'd', week: 'w', month: 'mo', year: 'y' }

// The latest minutes, for tables with a rollup by minute.
const MINUTES = [5, 15, 60].map(n => (
  { value: `${n}m`, label: `last ${n} min`, period: 'minute', last: `${n}m`, trend: 60, minutes: n }
))

// How many of a period the small lines show.
const TRENDS = { minute: 60, hour: 24, day: 30, week: 12, month: 12, year: 5 }

const PERIODS = Object.entries(UNITS).map(([period, unit]) => (
  { value: period, label: period, period, last: `1${unit}`, trend: TRENDS[period] }
))

const RANGES = [
  [60, 'minute', 'last hour by minute'], [24, 'hour', '24 hours by hour'], [168, 'hour', '7 days by hour'],
  [30, 'day', '30 days by day'], [90, 'day', '90 days by day'], [26, 'week', '26 weeks by week'],
  [12, 'month', '12 months by month'], [60, 'month', '5 years by month'], [10, 'year', '10 years by year']
].map(([n, period, label]) => ({ value: `${n}${UNITS[period]}`, label, period, last: `${n}${UNITS[period]}` }))

// Can be ranked by: a number or a distinct count of each key, or the leading items that a sketch keeps.
const ranks = measure => ['number', 'distinct', 'top_items'].includes(measure.kind)

// A sketch of leading items is a key and its measure in one; both go by the measure's name.
const itemsOf = rollup => rollup.measures.filter(m => m.kind === 'top_items').map(m => ({ name: m.name, type: 'items' }))
const keysOf = rollup => [...rollup.keys, ...itemsOf(rollup)]
const measuresOf = (rollup, key) => rollup.measures.filter(m => ranks(m) && (m.kind === 'top_items') === (m.name === key))
const has = (rollup, key, measure) => keysOf(rollup).some(k => k.name === key) && measuresOf(rollup, key).some(m => m.name === measure)

const pick = (options, ...values) => options.find(o => values.includes(o.value))
const unique = things => [...new Map(things.map(thing => [thing.name, thing])).values()]

// `wanted`: {table, key, measure, period, filters: {name: value}, item, range}, each optional. What is not there gives way
// to a default. An `item` of undefined stands for all keys.
export function resolve (catalog, wanted) {
  const tables = catalog.tables.filter(t => t.time_column)
  const table = tables.find(t => t.name === wanted.table) ?? tables.find(t => t.rollups.length > 0) ?? tables[0]
  const found = { tables: tables.map(t => ({ value: t.name, label: t.name })), table }
  if (!table) return found

  // Those that are ready first, then those with more keys: they can be filtered.
  const rollups = table.rollups.filter(r => r.period && r.measures.some(ranks))
    .sort((a, b) => (a.status === 'building') - (b.status === 'building') || b.keys.length - a.keys.length)

  const keys = unique(rollups.flatMap(keysOf))
  found.keys = keys.map(k => ({ value: k.name, label: k.type === 'items' ? `${k.name} (approx.)` : k.name }))
  const identifier = keys.find(k => k.name.endsWith('_id') && ['text', 'integer'].includes(k.type)) ?? keys[0]
  found.key = (pick(found.keys, wanted.key) ?? pick(found.keys, identifier?.name))?.value

  const measures = unique(rollups.filter(r => keysOf(r).some(k => k.name === found.key)).flatMap(r => measuresOf(r, found.key)))
  found.measures = measures.map(m => ({ value: m.name, label: m.approximate ? `${m.name} (approx.)` : m.name }))
  found.measure = measures.find(m => m.name === wanted.measure) ?? measures.find(m => m.kind === 'number') ?? measures[0]
  if (!found.measure) return found

  const fitting = rollups.filter(r => has(r, found.key, found.measure.name))
  found.periods = [...MINUTES, ...PERIODS].filter(p => fitting.some(r => r.period === p.period))
  found.period = pick(found.periods, wanted.period) ?? pick(found.periods, 'day') ?? found.periods.at(-1)
  found.rollup = fitting.find(r => r.period === found.period.period)

  found.filters = found.rollup.keys.map(k => k.name).filter(k => k !== found.key)
    .map(name => ({ name, value: wanted.filters?.[name] ?? '' }))

  found.item = wanted.item
  const filtered = found.filters.filter(f => f.value !== '').map(f => f.name)
  const forHistory = range => fitting.find(r => r.period === range.period && filtered.every(f => r.keys.some(k => k.name === f)))
  found.ranges = RANGES.filter(forHistory)
  found.range = pick(found.ranges, wanted.range) ?? found.ranges.find(r => r.period === found.period.period) ?? found.ranges[0]
  found.historyRollup = found.range && forHistory(found.range)
  return found
}

// The parameters that all questions share.
export function selection (found) {
  const parameters = { measure: found.measure.name }
  for (const { name, value } of found.filters) if (value !== '') parameters[`filter[${name}]`] = value
  return parameters
}

// The choice as the part of the address after '#', and back.
export function toHash (found) {
  const hash = new URLSearchParams()
  hash.set('table', found.table.name)
  if (found.measure) {
    hash.set('key', found.key)
    hash.set('measure', found.measure.name)
    hash.set('period', found.period.value)
    for (const { name, value } of found.filters) if (value !== '') hash.set(`filter.${name}`, value)
    if (found.item !== undefined) hash.set('item', found.item)
    if (found.range) hash.set('range', found.range.value)
  }
  return `#${hash}`
}

export function fromHash (hash) {
  const wanted = { filters: {} }
  for (const [name, value] of new URLSearchParams(hash.slice(1))) {
    if (name.startsWith('filter.')) wanted.filters[name.slice(7)] = value
    else wanted[name] = value
  }
  return wanted
}
