// Numbers, times and spans as people read them. Times are shown in the time zone of the rollup that they come from.

const plain = new Intl.NumberFormat('en-GB', { maximumFractionDigits: 2 })
const cents = new Intl.NumberFormat('en-GB', { minimumFractionDigits: 2, maximumFractionDigits: 2 })
const small = new Intl.NumberFormat('en-GB', { maximumSignificantDigits: 3 })
const short = new Intl.NumberFormat('en-GB', { notation: 'compact', maximumFractionDigits: 1 })
const percent = new Intl.NumberFormat('en-GB', { style: 'percent', minimumFractionDigits: 1, maximumFractionDigits: 1 })

// A number, or its digits as text where a JavaScript number would lose some.
export const number = n => n === null || n === undefined ? '–' : Math.abs(n) < 1 && Number(n) !== 0 ? small.format(n) : plain.format(n)
// One format for a column of numbers, so that their points stand below each other.
export const columnFormat = numbers => numbers.some(n => n % 1 !== 0 && Math.abs(n) >= 1) ? n => cents.format(n) : number
export const compact = n => Math.abs(n) < 1e4 ? number(n) : short.format(n)
export const rate = perSecond => perSecond === null || perSecond === undefined ? '–' : `${number(Math.round(perSecond * 10) / 10)} rows/s`
export const share = (n, total) => Number(total) ? percent.format(n / total) : '–'
export const name = key => key === null ? '(null)' : key === '' ? '(empty)' : String(key)

export function span (seconds) {
  if (seconds === null || seconds === undefined) return '–'
  if (seconds < 10) return `${Math.max(0, Math.round(seconds * 10) / 10)} s`
  if (seconds < 120) return `${Math.round(seconds)} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`
  if (seconds < 86400 * 730) return `${Math.round(seconds / 86400)} days`
  return `${Math.round(seconds / 86400 / 365.25)} years`
}

// The server's clock, so that ages are right on a machine whose own clock is not.
let ahead = 0
export const now = () => Date.now() + ahead
export function setNow (time) { ahead = Date.parse(time) - Date.now() }
export const age = time => (now() - Date.parse(time)) / 1000

const styles = {
  clock: { hour: '2-digit', minute: '2-digit', second: '2-digit' },
  minute: { hour: '2-digit', minute: '2-digit' },
  hour: { weekday: 'short', day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' },
  day: { weekday: 'short', day: 'numeric', month: 'short', year: 'numeric' },
  date: { day: 'numeric', month: 'short', year: 'numeric' },
  dayMonth: { day: 'numeric', month: 'short' },
  month: { month: 'long', year: 'numeric' },
  monthYear: { month: 'short', year: '2-digit' },
  year: { year: 'numeric' }
}
const formatters = new Map()

function at (time, style, zone) {
  const id = `${style} ${zone}`
  if (!formatters.has(id)) formatters.set(id, formatter(style, zone))
  return formatters.get(id).format(new Date(time))
}

function formatter (style, zone) {
  try {
    return new Intl.DateTimeFormat('en-GB', { ...styles[style], hourCycle: 'h23', timeZone: zone })
  } catch { // a zone that this browser does not know
    return formatter(style, 'UTC')
  }
}

// The time on the wall where this page is looked at.
export const clock = time => at(time, 'clock', undefined)

// The time of the day, with its date unless that is today.
export function moment (time, zone = 'UTC') {
  if (!time) return '–'
  const text = at(time, 'clock', zone).replace(/:00$/, '')
  if (at(time, 'date', zone) === at(now(), 'date', zone)) return text
  return `${at(time, at(time, 'year', zone) === at(now(), 'year', zone) ? 'dayMonth' : 'date', zone)}, ${text}`
}

// A bucket in full, and as a mark on an axis.
export function bucket (time, period, zone) {
  if (period === 'week') return `week of ${at(time, 'day', zone)}`
  return period === 'minute' ? moment(time, zone) : at(time, period, zone)
}

export function tick (time, period, zone) {
  const style = { minute: 'minute', hour: 'minute', day: 'dayMonth', week: 'dayMonth', month: 'monthYear', year: 'year' }[period]
  if (period === 'month') return at(time, style, zone).replace(' ', ' ’')
  if (period === 'hour' && at(time, 'minute', zone) === '00:00') return at(time, 'dayMonth', zone)
  return at(time, style, zone)
}
