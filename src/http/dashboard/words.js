// What the page says of an answer in words: its time, what leads, and how far it can be trusted.

import { age, bucket, moment, name, now, number, share, span } from './format.js'

// "today", "the last 5 minutes", or the time itself where the latest event is not of now.
function rangeName ({ period, rollup }, answer) {
  const zone = rollup.time_zone
  const current = Date.parse(answer.from) <= now() && now() < Date.parse(answer.to)
  if (period.minutes) return current ? `the last ${period.minutes} minutes` : `the ${period.minutes} minutes to ${moment(answer.to, zone)}`
  if (!current) return bucket(answer.from, period.period, zone)
  return period.period === 'day' ? 'today' : `this ${period.period}`
}

export function rangeText (found, answer) {
  const { period, rollup: { time_zone: zone } } = found
  const called = rangeName(found, answer)
  const time = period.minutes
    ? `${moment(answer.from, zone)} – ${moment(answer.to, zone)}`
    : bucket(answer.from, period.period, zone)
  return `${called === time ? called : `${called}: ${time}`} (${zone})`
}

// P-17 leads: quantity 120, 9.8% of 1,224 – 12 ahead of P-3.
export function leadText ({ measure }, { rows, total, approximate }) {
  if (rows.length === 0) return ''
  const about = approximate ? '≈ ' : ''
  const value = `${measure.name} ${about}${number(rows[0].value)}`
  const first = rows.filter(row => row.rank === rows[0].rank)
  if (first.length > 1) {
    const names = first.slice(0, 3).map(row => name(row.key)).join(', ')
    return `${names}${first.length > 3 ? ' and others' : ''} share the lead: ${value}.`
  }
  const part = total ? `, ${share(rows[0].value, total)} of ${number(total)}` : ''
  const ahead = rows[1] ? ` – ${about}${number(rows[0].value - rows[1].value)} ahead of ${name(rows[1].key)}` : ''
  return `${name(rows[0].key)} leads: ${value}${part}${ahead}.`
}

// ✓ exact · as of 10:02:31 UTC · complete through 09:45 · today is not complete yet
export function trustLine (found, answer) {
  if (!answer.as_of) return [{ id: 'sign', sign: 'approximate', text: 'no events yet' }]
  const zone = found.rollup.time_zone
  const uncertain = answer.rows.find(row => row.lower !== row.upper)
  const old = age(answer.as_of)
  const isComplete = `${found.period.minutes ? 'are' : 'is'} ${answer.complete ? 'complete' : 'not complete yet'}`
  return [
    answer.approximate ? { id: 'sign', sign: 'approximate', text: '≈ approximate' } : { id: 'sign', sign: 'exact', text: '✓ exact' },
    uncertain && { id: 'bounds', text: `${name(uncertain.key)} is between ${number(uncertain.lower)} and ${number(uncertain.upper)}` },
    { id: 'as of', text: `as of ${moment(answer.as_of, zone)} ${zone}${old > 90 ? ` (${span(old)} ago)` : ''}` },
    answer.watermark && { id: 'watermark', text: `complete through ${moment(answer.watermark, zone)}` },
    { id: 'complete', text: `${rangeName(found, answer)} ${isComplete}` },
    found.rollup.status === 'building' && { id: 'building', text: 'the rollup is being built' }
  ].filter(Boolean)
}

export function noteText (answer, shown) {
  if (!answer) return ''
  if (answer.rows.length > shown) return `and ${number(answer.rows.length - shown)} more with as much as the last`
  if (shown > 0) return ''
  return answer.as_of ? 'Nothing in this period with these filters.' : 'No events yet.'
}
