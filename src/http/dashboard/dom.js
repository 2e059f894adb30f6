// Making elements and changing only what differs. What comes from data becomes text or an attribute, never markup.

export const $ = id => document.getElementById(id)

export function el (tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children)
}

export function svg (tag, attributes = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children)
}

function fill (node, attributes, children) {
  set(node, attributes)
  node.append(...children)
  return node
}

// Sets attributes; null or undefined removes one.
export function set (node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) node.removeAttribute(name)
    else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value)
  }
}

export function setText (node, text) {
  if (node.textContent !== text) node.textContent = text
}

export function show (node, shown) {
  if (node.hidden === shown) node.hidden = !shown
}

// Makes the children of `parent` those of `items`, in their order: a child with the same key stays, and keeps the focus.
export function sync (parent, items, keyOf, make, update) {
  const focused = document.activeElement
  const times = new Map()
  const keys = items.map(item => {
    const key = JSON.stringify(keyOf(item))
    times.set(key, (times.get(key) ?? 0) + 1)
    return `${key} ${times.get(key)}`
  })
  const wanted = new Set(keys)
  const old = new Map()
  for (const child of [...parent.children]) {
    if (wanted.has(child.dataset.id)) old.set(child.dataset.id, child)
    else child.remove()
  }
  items.forEach((item, i) => {
    let child = old.get(keys[i])
    if (!child) {
      child = make(item)
      child.dataset.id = keys[i]
    }
    if (parent.children[i] !== child) parent.insertBefore(child, parent.children[i] ?? null)
    update(child, item, i)
  })
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true })
}

// The options of a select, as {value, label}; the choice of them; and nothing else is touched.
export function setOptions (select, options, value) {
  sync(select, options, o => o.value, o => el('option', { value: o.value }), (option, o) => setText(option, o.label))
  if (select.value !== value) select.value = value
  select.disabled = options.length === 0
}

// An error of the server: what is wrong and what to do about it. Null hides it.
export function showProblem (node, problem) {
  show(node, Boolean(problem))
  if (problem) setText(node, problem.text)
}
