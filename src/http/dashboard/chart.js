// Bars over time, and the small line of a row. Drawn in the pixels of their box; a redraw moves what is there.

import { set, setText, svg, sync } from './dom.js'

const HEIGHT = 290
const LEFT = 52
const BOTTOM = 24
const TOP = 8

// Makes a chart in `host`. `draw(data)`: {buckets, values, lower, upper, open: index => boolean, tick: index => text,
// format: value => text}. `onPoint(index, x)` is called with what the pointer or an arrow key is at, or with null.
export function barChart (host, onPoint) {
  const grid = svg('g', { class: 'grid' })
  const bars = svg('g')
  const bounds = svg('g', { class: 'bounds' })
  const ticks = svg('g', { class: 'ticks' })
  const root = svg('svg', { height: HEIGHT, 'aria-hidden': 'true' }, hatch(), grid, bars, bounds, ticks)
  host.append(root)
  let data, step = 1, cursor = null

  function draw (next = data) {
    if (!next) return
    data = next
    const { buckets, values, lower, upper } = data
    const width = Math.max(200, host.clientWidth)
    set(root, { width, viewBox: `0 0 ${width} ${HEIGHT}` })
    step = (width - LEFT) / Math.max(1, buckets.length)
    const all = [...values, ...(upper ?? []), ...(lower ?? [])].map(Number)
    const marks = scale(Math.min(0, ...all), Math.max(0, ...all))
    const [min, max] = [marks[0], marks.at(-1)]
    const y = value => TOP + (max - value) / (max - min) * (HEIGHT - TOP - BOTTOM)
    const gap = step > 5 ? step * 0.2 : step > 2 ? 0.5 : 0

    sync(grid, marks, m => m, () => svg('g', {}, svg('line'), svg('text')), (g, m) => {
      set(g, { class: m === 0 ? 'zero' : null })
      set(g.firstChild, { x1: LEFT, x2: width, y1: y(m), y2: y(m) })
      set(g.lastChild, { x: LEFT - 6, y: y(m) + 4, 'text-anchor': 'end' })
      setText(g.lastChild, data.format(m))
    })
    sync(bars, buckets, b => b, () => svg('rect', { 'data-testid': 'point' }), (bar, bucket, i) => {
      const value = Number(values[i] ?? 0)
      set(bar, {
        x: LEFT + i * step + gap / 2,
        width: Math.max(0.5, step - gap),
        y: Math.min(y(value), y(0)),
        height: Math.abs(y(value) - y(0)),
        class: `${data.open(i) ? 'open' : 'closed'}${i === cursor ? ' at' : ''}`,
        fill: data.open(i) ? 'url(#hatch)' : null,
        'data-bucket': bucket,
        'data-value': values[i] ?? ''
      })
    })
    const bounded = lower && upper ? buckets.map((_, i) => i).filter(i => values[i] !== null && lower[i] !== upper[i]) : []
    sync(bounds, bounded, i => i, () => svg('path'), (path, i) => {
      const [x, w] = [LEFT + (i + 0.5) * step, Math.min(4, step / 3)]
      set(path, { d: `M${x - w} ${y(upper[i])}H${x + w}M${x} ${y(upper[i])}V${y(lower[i])}M${x - w} ${y(lower[i])}H${x + w}` })
    })
    const every = Math.ceil(buckets.length / Math.max(1, Math.floor((width - LEFT) / 68)))
    const marked = buckets.map((_, i) => i).filter(i => (buckets.length - 1 - i) % every === 0 && (i + 0.5) * step > 16)
    sync(ticks, marked, i => i, () => svg('text', { 'text-anchor': 'middle', y: HEIGHT - 6 }), (text, i) => {
      set(text, { x: Math.min(LEFT + (i + 0.5) * step, width - 24) })
      setText(text, data.tick(i))
    })
  }

  function moveTo (index) {
    if (!data || index === cursor) return
    const last = data.buckets.length - 1
    cursor = index === null || last < 0 ? null : Math.min(last, Math.max(0, index))
    bars.querySelector('.at')?.classList.remove('at')
    if (cursor !== null) bars.children[cursor].classList.add('at')
    onPoint(cursor, cursor === null ? 0 : LEFT + (cursor + 0.5) * step)
  }

  host.addEventListener('pointermove', e => moveTo(Math.floor((e.clientX - host.getBoundingClientRect().left - LEFT) / step)))
  host.addEventListener('pointerleave', e => { if (e.pointerType === 'mouse') moveTo(null) })
  host.addEventListener('blur', () => moveTo(null))
  host.addEventListener('keydown', e => {
    const last = (data?.buckets.length ?? 0) - 1
    const target = { ArrowLeft: (cursor ?? last + 1) - 1, ArrowRight: (cursor ?? last) + 1, Home: 0, End: last, Escape: null }[e.key]
    if (target === undefined) return
    e.preventDefault()
    moveTo(target)
  })
  new ResizeObserver(() => draw()).observe(host)
  return { draw, moveTo }
}

// What is not complete yet is hatched.
function hatch () {
  const pattern = svg('pattern', { id: 'hatch', width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' },
    svg('rect', { width: 6, height: 6, class: 'hatch-ground' }), svg('rect', { width: 3, height: 6, class: 'hatch-line' }))
  return svg('defs', {}, pattern)
}

// Round numbers from below `min` to above `max`, about four of them.
function scale (min, max) {
  if (max === min) max = min + 1
  const rough = (max - min) / 4
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].find(n => n * power >= rough) * power
  const marks = []
  for (let n = Math.floor(min / step); n < Math.ceil(max / step) + 1; n++) marks.push(Number((n * step).toPrecision(12)))
  return marks
}

// The line of a row: a solid part, and a dashed one to the points that are not complete.
export function sparkline () {
  return svg('svg', { class: 'spark', viewBox: '0 0 100 24', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    svg('path', { class: 'solid' }), svg('path', { class: 'dashed' }))
}

export function drawSparkline (root, values, firstOpen) {
  const numbers = values.map(Number)
  const [min, max] = [Math.min(0, ...numbers), Math.max(0, ...numbers)]
  const points = numbers.map((value, i) => (
    `${(i / Math.max(1, numbers.length - 1) * 98 + 1).toFixed(1)} ${(22 - (value - min) / (max - min || 1) * 20).toFixed(1)}`
  ))
  const line = points => points.length > 1 ? `M${points.join('L')}` : null
  set(root.firstChild, { d: line(points.slice(0, firstOpen)) })
  set(root.lastChild, { d: line(points.slice(Math.max(0, firstOpen - 1))) })
}
