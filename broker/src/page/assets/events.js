// What happens, as it happens. It can be stopped for reading, and what is new is said to screen readers, though not more
// often than one can listen to.

import { follow } from "./api.js";
import { now } from "./clock.js";
import { byId, h, setAttribute, setText, show } from "./dom.js";
import { EVENT_KINDS, dayAndTime, enumName, kindTone, kindWords, reasonWords, several, timeOfDay } from "./words.js";

/** As many as a broker remembers. */
const MOST = 256;
const SAID_EVERY = 4000;

/** The feed; `on` is told what `follow` tells, and `on.event()` of each that is new. */
export function eventFeed(on) {
  const list = byId("event-list");
  const kinds = byId("event-kind");
  const pause = byId("pause");
  const known = new Set();
  let stream = null;
  let pool = "";
  let paused = false;
  let held = [];
  let unread = 0;
  let opened = 0;
  let unsaid = [];
  let saying = null;

  kinds.append(h("option", { value: "" }, "All kinds"));
  for (const kind of EVENT_KINDS) kinds.append(h("option", { value: kind }, kindWords(kind)));

  function take(event) {
    if (event.id !== undefined) {
      if (known.has(event.id)) return;
      known.add(event.id);
      if (known.size > 4 * MOST) known.delete(known.values().next().value);
    }
    // What happened before the page was opened, by the ledger's clock, is not news.
    if (Date.parse(event.time) >= opened + now() - Date.now()) {
      on.event();
      say(event);
      if (document.body.dataset.view === "usage" || paused) unread += 1;
    }
    if (paused) {
      held.push(event);
      held = held.slice(-MOST);
    } else {
      add(event);
    }
    note();
  }

  function add(event) {
    const at = Date.parse(event.time);
    const kind = enumName(event.kind, "event_kind_");
    const item = h(
      "li",
      { class: "event", "data-tone": kindTone(kind), "data-kind": kind },
      h(
        "div",
        { class: "event-head" },
        h("strong", {}, kindWords(kind)),
        h("time", { datetime: event.time, title: dayAndTime(at) }, timeOfDay(at)),
      ),
      h("p", {}, sentence(event)),
      event.reason ? h("p", { class: "quiet" }, reasonWords(event.reason)) : null,
      event.consumer ? h("p", {}, h("span", { class: "chip" }, `asked for by ${event.consumer}`)) : null,
    );
    show(item, fits(item));
    list.prepend(item);
    while (list.childElementCount > MOST) list.lastChild.remove();
  }

  const fits = (item) => kinds.value === "" || item.dataset.kind === kinds.value;

  function say(event) {
    if (paused) return;
    unsaid.push(event);
    if (saying !== null) return;
    saying = setTimeout(() => {
      const more = unsaid.length > 1 ? `, and ${several(unsaid.length - 1, "more event")}` : "";
      const last = unsaid.at(-1);
      setText(
        byId("announcer"),
        `${kindWords(enumName(last.kind, "event_kind_"))}: ${last.subject || last.message}${more}`,
      );
      unsaid = [];
      saying = setTimeout(() => {
        saying = null;
        if (unsaid.length > 0) say(unsaid.pop());
      }, SAID_EVERY);
    }, 300);
  }

  function note() {
    const shown = [...list.children].filter((item) => !item.hidden).length;
    const none =
      list.childElementCount === 0 ? "Nothing has happened since this broker started." : "No event of this kind.";
    setText(byId("events-note"), paused ? `Paused, ${several(held.length, "new event")}` : shown === 0 ? none : "");
    show(byId("events-note"), paused || shown === 0);
    setText(byId("unread"), unread > 99 ? "99+" : String(unread));
    show(byId("unread"), unread > 0);
  }

  function toggle() {
    paused = !paused;
    setAttribute(pause, "aria-pressed", paused);
    setText(pause, paused ? "Go on" : "Pause");
    if (!paused) {
      held.forEach(add);
      held = [];
      unread = 0;
    }
    note();
  }

  pause.addEventListener("click", toggle);
  kinds.addEventListener("change", () => {
    for (const item of list.children) show(item, fits(item));
    note();
  });
  note();

  return {
    toggle,
    /** Follows the events of a pool. */
    open(name) {
      stream?.stop();
      if (name !== pool) {
        pool = name;
        known.clear();
        list.replaceChildren();
        held = [];
        unread = 0;
      }
      opened = Date.now();
      note();
      stream = follow("v1/events", { pool, recent: MOST }, { ...on, message: take });
    },
    close() {
      stream?.stop();
      stream = null;
    },
    hurry: () => stream?.hurry(),
    /** They were looked at. */
    seen() {
      if (!paused) unread = 0;
      note();
    },
  };
}

/** The message of an event as it is read here: of this pool, with the reason said below, and times of this place. */
function sentence({ message = "", pool, reason }) {
  const beginning = `pool ${pool}: `;
  const text = message.startsWith(beginning) ? message.slice(beginning.length) : message;
  return text.replace(` (${reason})`, "").replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, (instant) => {
    const at = Date.parse(instant);
    return new Date(at).toDateString() === new Date().toDateString() ? timeOfDay(at) : dayAndTime(at);
  });
}
