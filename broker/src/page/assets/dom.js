// Elements, made without ever reading text as HTML: names come from requests and configuration.

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id, which index.html has. */
export function byId(id) {
  return document.getElementById(id);
}

/** A new element with these attributes; children are elements or texts. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same of SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
}

/** Sets the text of an element, if it is another than before. */
export function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Sets an attribute, if it is another than before; without a value it is taken away. */
export function setAttribute(element, name, value) {
  if (value === undefined || value === null) {
    element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, String(value));
  }
}

/** Shows an element, or does not. */
export function show(element, shown) {
  if (element.hidden === shown) {
    element.hidden = !shown;
  }
}

/** Shows a text in an element, which is away while there is none. */
export function tell(element, text) {
  setText(element, text ?? "");
  show(element, Boolean(text));
}

/**
 * The children of an element as a list of parts `{ element, update }`, one for each item by its key. What stays is kept,
 * so that focus and open menus stay with it.
 */
export class List {
  #parts = new Map();

  constructor(container, create) {
    this.container = container;
    this.create = create;
  }

  /** Shows these items, each with a key unlike the others'. */
  update(items, keyOf) {
    const before = this.#parts;
    const parts = new Map();
    let last = null;
    for (const item of items) {
      const key = keyOf(item);
      if (parts.has(key)) continue;
      const part = before.get(key) ?? this.create(item);
      before.delete(key);
      parts.set(key, part);
      part.update(item);
      const place = last === null ? this.container.firstChild : last.nextSibling;
      if (part.element !== place) {
        this.container.insertBefore(part.element, place);
      }
      last = part.element;
    }
    for (const part of before.values()) {
      part.element.remove();
    }
    this.#parts = parts;
  }
}
