// What goes into the page. Text of the daemon, of MTAs and of people goes in as text, always: nothing here
// knows how to make markup of it.

export const $ = (id) => document.getElementById(id);

/** An element with properties (`class`, `data-…`, `aria-…` and such are attributes) and children. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name in node && !name.includes('-')) node[name] = value;
    else node.setAttribute(name === 'className' ? 'class' : name, value === true ? '' : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Says something else, where it is something else: what is read out, or selected, stays. */
export function setText(node, text) {
  const wanted = text === null || text === undefined ? '' : String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Sets an attribute, where it changes; `null` takes it away. */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

/** A button; `of` is what it acts on, for those who hear it without its row. */
export function button(text, of, onClick, className) {
  const node = el('button', { type: 'button', className });
  relabel(node, text, of);
  node.addEventListener('click', onClick);
  return node;
}

export function relabel(node, text, of) {
  if (node.dataset.label === `${text} ${of}`) return;
  node.dataset.label = `${text} ${of}`;
  node.replaceChildren(text, el('span', { className: 'unseen' }, ` ${of}`));
}

/**
 * Rows of a table's body, kept by key: a row stays where it is as long as its key is there, so that focus
 * and what is being read stay. `make(key)` gives `{row, update}`.
 */
export class Rows {
  constructor(body, make) {
    this.body = body;
    this.make = make;
    this.rows = new Map();
  }

  /** `items`: pairs of key and value; the new ones come last. */
  update(items) {
    const keys = new Set(items.map(([key]) => key));
    for (const [key, { row }] of this.rows) {
      if (keys.has(key)) continue;
      const held = row.contains(document.activeElement);
      row.remove();
      this.rows.delete(key);
      if (held) this.body.closest('section').querySelector('h2')?.focus();
    }
    for (const [key, value] of items) {
      let made = this.rows.get(key);
      if (!made) {
        made = this.make(key);
        this.rows.set(key, made);
        this.body.append(made.row);
      }
      made.update(value);
    }
  }
}

/** A cell that bears its column's name, for screens where rows stand as cards. */
export function cell(label, ...children) {
  return el('td', { role: 'cell', 'data-label': label }, ...children);
}

export function heading(...children) {
  return el('th', { role: 'rowheader', scope: 'row' }, ...children);
}

export function row(...cells) {
  return el('tr', { role: 'row' }, ...cells);
}
