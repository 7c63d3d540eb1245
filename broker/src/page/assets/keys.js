// All projects of a pool with their keys. Pools may have thousands: cards are made a few at a time, and of many only
// those that are on the screen are kept up to date.

import { List, byId, h, setText, show, tell } from "./dom.js";
import { card, limitList } from "./groups.js";
import { STATES, matches } from "./standing.js";
import { count, several } from "./words.js";

/** Up to so many cards all are kept up to date. */
const FEW = 60;
/** So many cards are made at a time. */
const AT_ONCE = 40;
/** So many keys of one project are listed. */
const MOST_KEYS = 200;

/** The section of keys; `act(what, key)` is asked for by its buttons. */
export function keysView(act) {
  const filter = byId("filter");
  const state = byId("state");
  const groups = byId("groups");
  const whole = limitList(byId("pool-limits").querySelector(".limits"));
  const parts = new Map();
  const onScreen = new Set();
  const waiting = new Set();
  let standing = null;
  let making = false;

  for (const [value, words] of Object.entries(STATES)) {
    state.append(h("option", { value }, words));
  }
  state.value = "all";

  const screen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        const part = parts.get(entry.target.dataset.project);
        if (part === undefined) continue;
        if (entry.isIntersecting) {
          onScreen.add(part);
          bring(part);
        } else {
          onScreen.delete(part);
        }
      }
    },
    { rootMargin: "400px" },
  );

  // The outside of a card stands at once, so that the page has its length; the inside comes when it is time.
  const list = new List(groups, (item) => {
    const element = h("div", { class: "slot", "data-project": item.project.id });
    const part = { element, item, card: null, shown: null };
    part.update = (next) => {
      part.item = next;
    };
    parts.set(item.project.id, part);
    screen.observe(element);
    return part;
  });

  function bring(part) {
    if (part.card === null) {
      part.card = card(act);
      part.element.append(part.card.element);
      waiting.delete(part);
    }
    if (part.shown !== part.item) {
      part.shown = part.item;
      part.card.update(part.item);
    }
  }

  function makeMore() {
    making = false;
    let made = 0;
    for (const part of waiting) {
      if (made++ === AT_ONCE) break;
      waiting.delete(part);
      bring(part);
    }
    makeLater();
  }

  function makeLater() {
    if (!making && waiting.size > 0) {
      making = true;
      requestAnimationFrame(() => setTimeout(makeMore));
    }
  }

  function render() {
    if (standing === null) return;
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const items = [];
    let keys = 0;
    for (const project of standing.groups) {
      const found = project.keys.filter((key) => matches(project, key, words, state.value));
      if (found.length === 0) continue;
      keys += found.length;
      items.push({ project, keys: found.slice(0, MOST_KEYS) });
    }
    list.update(items, (item) => item.project.id);
    const shown = new Set(items.map((item) => item.project.id));
    for (const [id, part] of parts) {
      if (!shown.has(id)) {
        screen.unobserve(part.element);
        onScreen.delete(part);
        waiting.delete(part);
        parts.delete(id);
      } else if (part.card === null) {
        waiting.add(part);
      }
    }
    const current = items.length <= FEW ? parts.values() : onScreen;
    for (const part of current) bring(part);
    makeLater();

    const { totals } = standing;
    const filtered = words.length > 0 || state.value !== "all";
    const all = `${several(standing.groups.length, "project")}, ${several(totals.keys, "key")}`;
    setText(byId("shown"), filtered ? `${count(keys)} of ${several(totals.keys, "key")}` : all);
    const none = filtered
      ? "Nothing here fits the filter."
      : "This pool has no keys yet. Add one, or write it into the configuration.";
    tell(byId("no-keys"), items.length === 0 ? none : "");
    whole.update(standing.whole.limits);
    show(byId("pool-limits"), standing.whole.limits.length > 0);
  }

  let queued = false;
  const later = () => {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      render();
    });
  };
  filter.addEventListener("input", later);
  state.addEventListener("change", later);

  return {
    update(next) {
      standing = next;
      render();
    },
    /** Another pool: nothing of the last one stays. */
    clear() {
      standing = null;
      list.update([], () => "");
      parts.clear();
      onScreen.clear();
      waiting.clear();
      filter.value = "";
      state.value = "all";
    },
    tick() {
      const current = parts.size <= FEW ? parts.values() : onScreen;
      for (const part of current) part.card?.tick();
    },
    focusFilter() {
      filter.focus();
      filter.select();
    },
  };
}
