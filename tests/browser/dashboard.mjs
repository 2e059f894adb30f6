// A person at the dashboard: does in Chromium what the lines on standard input say, and answers each with a line,
// 'ok' or 'failed: why'. Whoever runs it changes the data of the server in between.
//
//   node dashboard.mjs BASE_URL OUT_DIR        prints 'ready' once the page is there
//
//   check [{"key":"A","value":10},…]           these and no others come to be the rows of the top 10
//   table T, key K, measure M, period P, range R    chooses
//   filter country=France                      sets a filter; 'filter country=' takes it off
//   select A                                   clicks on a row; its history comes
//   history 30                                 the bars of the history come to add up to 30
//   trust TEXT, health TEXT                    the line comes to have this in it
//   away, live                                 the page comes to say that of the server
//   phone, desktop, dark, light                how it is looked at; nothing sticks out to the right
//   screenshot NAME                            OUT_DIR/NAME.png
//   end                                        no errors on the console, no request to elsewhere; the last line

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'

const TIMEOUT = 20_000
const [base, out] = process.argv.slice(2)
const browsers = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
const browser = await chromium.launch({ executablePath: browsers.find(path => path && existsSync(path)), args: ['--no-sandbox'] })
const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, colorScheme: 'light' })
page.setDefaultTimeout(TIMEOUT)

const errors = []
let unreachable = [] // errors of the network, which are right only while the server is away
let away = false
page.on('pageerror', e => errors.push(e.stack))
page.on('console', message => {
  if (message.text().includes('net::ERR_')) away || unreachable.push(message.text())
  else errors.push(`${message.type()}: ${message.text()}`)
})
const elsewhere = new Set()
page.on('request', request => { if (new URL(request.url()).origin !== new URL(base).origin) elsewhere.add(request.url()) })

// Reads again and again until it is what is expected.
async function comes (read, expected, matches = assert.deepEqual) {
  const end = performance.now() + TIMEOUT
  for (;;) {
    const seen = await read()
    try {
      return matches(seen, expected)
    } catch {
      if (performance.now() > end) assert.fail(`expected ${JSON.stringify(expected)}, the page shows ${JSON.stringify(seen)}`)
    }
    await page.evaluate(() => new Promise(resolve => requestAnimationFrame(resolve)))
  }
}

const contains = (seen, expected) => assert.ok(seen.includes(expected))
const settled = () => page.waitForSelector('#top[aria-busy=false]')
const choose = id => async value => {
  await page.selectOption(`#${id}`, value)
  await settled()
}
const state = name => page.waitForSelector(`#connection[data-state=${name}]`)
const rows = () => page.$$eval('[data-testid=top-row]', rows => rows.map(row => (
  { key: row.dataset.key, value: Number(row.querySelector('[data-testid=value]').dataset.value) }
)))
const sum = () => page.$$eval('#history [data-testid=point]', points => points.reduce((all, point) => all + Number(point.dataset.value), 0))
async function look (how) {
  if (how.width) await page.setViewportSize(how)
  else await page.emulateMedia(how)
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth), false, 'the page is wider than its window')
}

const commands = {
  check: json => comes(rows, JSON.parse(json).map(({ key, value }) => ({ key: String(key), value: Number(value) }))),
  table: choose('table'),
  key: choose('key'),
  measure: choose('measure'),
  period: choose('period'),
  range: choose('range'),
  async filter (text) {
    const [name, value] = text.split(/=(.*)/s)
    const input = page.locator(`[data-filter="${name}"]`)
    await input.fill(value)
    await input.press('Enter')
    await settled()
  },
  async select (key) {
    await page.click(`[data-testid=top-row][data-key=${JSON.stringify(key)}] button`)
    await page.waitForSelector(`#history[data-item=${JSON.stringify(key)}]`)
  },
  history: total => comes(sum, Number(total)),
  trust: text => comes(() => page.innerText('#trust'), text, contains),
  health: text => comes(() => page.innerText('#health-summary'), text, contains),
  async away () {
    await state('away')
    away = true
    unreachable = []
  },
  async live () {
    await state('live')
    away = false
  },
  phone: () => look({ width: 390, height: 844 }),
  desktop: () => look({ width: 1280, height: 800 }),
  dark: () => look({ colorScheme: 'dark' }),
  light: () => look({ colorScheme: 'light' }),
  screenshot: name => page.screenshot({ path: join(out, `${name}.png`) }),
  end () {
    assert.deepEqual([...errors, ...unreachable], [], 'errors on the console')
    assert.deepEqual([...elsewhere], [], 'requests to elsewhere')
  }
}

async function answer (work) {
  try {
    await work()
    return 'ok'
  } catch (e) {
    return `failed: ${String(e.message).replace(/\s+/g, ' ')}`
  }
}

let last = await answer(async () => {
  await page.goto(base)
  await page.waitForSelector('#connection[data-state=live]')
  await page.waitForSelector('#top[aria-busy=false], #welcome:not([hidden])')
})
console.log(last === 'ok' ? 'ready' : last)
let ended = false
for await (const line of createInterface({ input: process.stdin })) {
  const [, name, argument] = line.match(/^(\S*) ?(.*)$/s)
  last = await answer(() => (commands[name] ?? (() => assert.fail(`no command '${name}'`)))(argument))
  console.log(last)
  ended = name === 'end'
  if (ended) break
}
await browser.close()
process.exit(ended && last === 'ok' ? 0 : 1)
