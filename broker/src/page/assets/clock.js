// The ledger's clock, as far as this page knows it, and what ticks by it.

import { setAttribute, setText } from "./dom.js";
import { span } from "./words.js";

let ahead = 0;
const ticking = new Set();

/** The ledger said that it is this instant (RFC 3339) now. */
export function learn(now) {
  const at = Date.parse(now);
  if (!Number.isNaN(at)) {
    ahead = at - Date.now();
  }
}

/** Milliseconds since 1970, by the ledger's clock. */
export function now() {
  return Date.now() + ahead;
}

/** Calls this each second, until what it returns is called. */
export function eachSecond(call) {
  ticking.add(call);
  return () => ticking.delete(call);
}

setInterval(() => {
  if (document.hidden) return;
  for (const call of ticking) {
    call();
  }
}, 1000);

/** Shows in a `time` element how long it is until an instant. */
export function countDown(element, until) {
  setAttribute(element, "datetime", until);
  setText(element, wait(Date.parse(until)));
}

/** How long it is until an instant in milliseconds, in words. */
function wait(at) {
  const left = at - now();
  return left > 0 ? span(left) : "any moment";
}

/** Brings the countdowns within an element up to date. */
export function tick(root) {
  for (const element of root.querySelectorAll("time[data-countdown]")) {
    setText(element, wait(Date.parse(element.dateTime)));
  }
}
