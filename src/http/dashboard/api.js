// Asks the server: sends the token, tells an error of the server from a server that is away, and repeats what is to be live.

export class Problem extends Error {
  constructor ({ title, detail, hint, status }) {
    super(detail ?? title ?? `status ${status}`)
    this.text = hint ? `${this.message} – ${hint}` : this.message
  }
}

export class Away extends Error {}

const PATIENCE = 60_000 // milliseconds until a server that does not answer counts as away

const connection = { state: 'connecting', since: null, watchers: [] }

// Calls back with 'live' or 'away' and since when, whenever that changes.
export function watchConnection (watcher) { connection.watchers.push(watcher) }

function nowIs (state) {
  if (connection.state === state) return
  connection.state = state
  for (const watcher of connection.watchers) watcher(state, new Date())
}

// Asks the user for a token; `refused` says that there was one already. Set by the page.
let askToken
let asking = null
export function setAskToken (ask) { askToken = ask }

export async function get (path, signal) {
  await asking
  const token = sessionStorage.getItem('toplake-token')
  let response, text
  try {
    response = await fetch(path, {
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      signal: AbortSignal.any([signal, AbortSignal.timeout(PATIENCE)]),
      cache: 'no-store'
    })
    text = await response.text()
  } catch (e) {
    if (signal.aborted) throw e
    nowIs('away')
    throw new Away('the server does not answer')
  }
  if (response.status === 401) {
    if (token === sessionStorage.getItem('toplake-token')) { // else another request has got a new one
      asking ??= askToken(Boolean(token)).then(token => sessionStorage.setItem('toplake-token', token)).finally(() => { asking = null })
    }
    return get(path, signal)
  }
  let answer
  try {
    answer = JSON.parse(text, allDigits)
  } catch { // a proxy, or a server that was cut off
    nowIs('away')
    throw new Away(`the server does not answer, status ${response.status}`)
  }
  nowIs('live')
  if (!response.ok) throw new Problem({ status: response.status, ...answer })
  return answer
}

// Keeps a number of more digits than a JavaScript number holds as text, where the browser shows its digits.
function allDigits (key, value, context) {
  return typeof value === 'number' && context?.source?.replace(/\D/g, '').length > 15 ? context.source : value
}

export function query (path, parameters) {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) if (one !== undefined) search.append(name, one)
  }
  return `${path}?${search}`
}

// Does `work(signal)` again and again: each `every` milliseconds, but at most a sixth of the time; not while nobody looks;
// never twice at once. `again` drops what runs and starts at once.
export function repeat (work, every) {
  let timer, running, failures = 0

  async function again () {
    clearTimeout(timer)
    running?.abort()
    const mine = running = new AbortController()
    const begun = performance.now()
    let pause = every
    try {
      await work(mine.signal)
      failures = 0
      pause = Math.max(every, 5 * (performance.now() - begun))
    } catch (e) {
      if (mine !== running) return
      if (!(e instanceof Away || e instanceof Problem)) console.error(e)
      pause = Math.min(every * 2 ** failures++, 10_000)
    }
    if (mine !== running) return
    running = null
    if (!document.hidden) timer = setTimeout(again, pause)
  }

  document.addEventListener('visibilitychange', () => {
    if (document.hidden) clearTimeout(timer)
    else if (!running) again()
  })
  // Whoever waits long for a server that was away need not.
  watchConnection(state => { if (state === 'live' && failures > 0 && !running) again() })
  return again
}
