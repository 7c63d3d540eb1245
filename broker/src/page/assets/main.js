// The page as a whole: who looks at it, which pool and view they chose, and whether the broker is there.

import { actions } from "./actions.js";
import { follow, getAll } from "./api.js";
import { eachSecond, learn } from "./clock.js";
import { closeAll, openManual, wireDialogs } from "./dialogs.js";
import { byId, h, setAttribute, setText, show, tell } from "./dom.js";
import { eventFeed } from "./events.js";
import { keysView } from "./keys.js";
import { overview } from "./overview.js";
import { nextTheme, setShortcuts, setToken, shortcuts, theme, token } from "./settings.js";
import { stand } from "./standing.js";
import { usageView } from "./usage.js";
import { count, timeOfDay } from "./words.js";

const VIEWS = ["keys", "usage", "events"];
/** How often keys are listed though nothing says that they changed. */
const LIST_EVERY = 30_000;
const LIST_WHILE_DRAINING = 2_000;
/** How long a hidden page keeps its connections: a browser has few for one host. */
const HIDDEN = 5_000;

let pools = [];
let pool = "";
let view = "keys";
let stage = "opening";
let lastMessage = null;
let listed = [];
let leasedBefore = "";
let watching = null;
let listing = null;
let running = false;
let lastHeard = 0;
const away = new Set();

const doing = actions(
  () => pool,
  () => relist(),
);
const keys = keysView((what, key) => doing.onKey(what, key));
const numbers = overview();
const usage = usageView((error) => end(error));
const events = eventFeed({
  state: (state, error) => connection("events", state, error),
  refused: (error) => end(error),
  event: () => relistSoon(),
});

// ---- Stages: opening, sign-in, refused, board.

function enter(next) {
  stage = next;
  document.body.dataset.stage = next;
  for (const id of ["opening", "sign-in", "refused", "board"]) show(byId(id), id === next);
  for (const element of document.querySelectorAll("[data-needs=session]")) show(element, next === "board");
  show(byId("sign-out"), next === "board" && token() !== null);
}

async function begin() {
  link("opening", "Connecting");
  try {
    pools = await listPools();
  } catch (error) {
    end(error);
    return;
  }
  if (pools.length === 0) {
    refuse("No pool to look at", "The broker has no pool that you may look at.");
    return;
  }
  showPools();
  byId("token").value = "";
  enter("board");
  pool = "";
  route();
}

async function listPools() {
  return (await getAll("v1/pools", "pools", { pageSize: 1000 })).map((one) => one.name.slice("pools/".length));
}

function showPools() {
  byId("pool").replaceChildren(...pools.map((name) => h("option", { value: name }, name)));
  byId("pool").value = pool;
}

/** The broker does not answer as one would wish: what a person can do about it. */
function end(error) {
  if (error.status === 404 && stage === "board") {
    relistPools();
    return;
  }
  halt();
  closeAll();
  tell(byId("banner"), "");
  if (error.status === 401) {
    const known = token() !== null;
    setToken(null);
    enter("sign-in");
    link("out", "Signed out");
    tell(byId("sign-in-wrong"), known ? `This token is not taken: ${error.message}` : "");
    setAttribute(byId("token"), "aria-invalid", known ? "true" : null);
    byId("token").focus();
  } else if (error.status === 403) {
    refuse("You may not look at this", `The broker knows you, and says: ${error.message}`);
  } else if (error.isAway) {
    refuse(
      "The broker is away",
      `${error.status === 0 ? "It cannot be reached" : error.message}. The page tries again by itself.`,
    );
    link("away", "Away");
    setTimeout(() => stage === "refused" && begin(), 3000);
  } else {
    refuse("This did not work", error.words ?? String(error));
  }
}

function refuse(title, text) {
  enter("refused");
  link("out", "Not connected");
  setText(byId("refused-title"), title);
  setText(byId("refused-text"), text);
  show(byId("refused-out"), true);
}

byId("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const typed = byId("token").value.trim();
  const isSendable = /^[\x21-\x7e]+$/.test(typed);
  tell(byId("sign-in-wrong"), isSendable ? "" : "Give the token as you got it: letters and digits without spaces.");
  if (!isSendable) return;
  setToken(typed);
  byId("sign-in-go").disabled = true;
  await begin();
  byId("sign-in-go").disabled = false;
  if (stage === "board") byId("content").focus();
});
byId("refused-again").addEventListener("click", () => begin());
const signOut = () => {
  halt();
  setToken(null);
  byId("token").value = "";
  enter("sign-in");
  link("out", "Signed out");
  tell(byId("sign-in-wrong"), "");
  byId("token").focus();
};
byId("refused-out").addEventListener("click", signOut);
byId("sign-out").addEventListener("click", signOut);

// ---- Pool and view, as the address says: #default/keys.

function route() {
  if (stage !== "board") return;
  const [named, wanted] = location.hash.slice(1).split("/");
  const nextPool = pools.includes(named) ? named : pools.includes("default") ? "default" : pools[0];
  const nextView = VIEWS.includes(wanted) ? wanted : "keys";
  const changed = nextPool !== pool;
  pool = nextPool;
  view = nextView;
  document.body.dataset.view = view;
  byId("pool").value = pool;
  setText(byId("board-title"), `Pool ${pool}`);
  setText(byId("usage-title"), "Usage");
  for (const anchor of document.querySelectorAll("[data-go]")) {
    anchor.setAttribute("href", `#${pool}/${anchor.dataset.go}`);
    setAttribute(anchor, "aria-current", anchor.dataset.go === view ? "page" : null);
  }
  for (const [id, views] of Object.entries({
    overview: ["keys"],
    projects: ["keys"],
    usage: ["usage"],
    aside: ["keys", "events"],
    cooling: ["keys"],
    nearest: ["keys"],
  })) {
    show(byId(id), views.includes(view));
  }
  if (view !== "usage") events.seen();
  if (changed) watch();
  if (view === "usage") usage.open(pool);
  else usage.close();
}

function go(next) {
  location.hash = `#${pool}/${next}`;
}

window.addEventListener("hashchange", route);
byId("pool").addEventListener("change", (event) => {
  location.hash = `#${event.target.value}/${view}`;
});
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("content").focus();
});

// ---- What the broker tells.

function watch() {
  halt();
  keys.clear();
  numbers.clear();
  lastMessage = null;
  listed = [];
  leasedBefore = "";
  connect();
}

function connect() {
  running = true;
  away.clear();
  watching = follow(
    `v1/pools/${encodeURIComponent(pool)}:watch`,
    {},
    {
      state: (state, error) => connection("watch", state, error),
      refused: (error) => end(error),
      message: take,
    },
  );
  events.open(pool);
  relist();
}

function halt() {
  running = false;
  watching?.stop();
  watching = null;
  events.close();
  usage.close();
  clearTimeout(listing);
}

function take(message) {
  lastMessage = message;
  lastHeard = Date.now();
  learn(message.now);
  const leased = (message.keys ?? []).map((key) => key.keyId).join(",");
  if (leasedBefore !== "" && leased !== leasedBefore) relistSoon();
  leasedBefore = leased;
  render();
}

function render() {
  if (lastMessage === null) return;
  const standing = stand(lastMessage, listed);
  numbers.update(standing);
  keys.update(standing);
  const { able, keys: all } = standing.totals;
  document.title = `${pool}: ${count(able)} of ${count(all)} keys · keybroker`;
}

let round = 0;

/** Lists the keys of the pool, with all that the stream does not tell of them, and the pools that there are. */
async function relist() {
  clearTimeout(listing);
  if (!running) return;
  const mine = ++round;
  let next = LIST_EVERY;
  try {
    const all = await getAll(`v1/pools/${encodeURIComponent(pool)}/keys`, "keys", { pageSize: 1000 });
    if (mine !== round || !running) return;
    listed = all;
    if (all.some((key) => key.state === "KEY_STATE_DRAINING")) next = LIST_WHILE_DRAINING;
    render();
    const names = await listPools();
    if (mine !== round || !running) return;
    if (names.join() !== pools.join() && names.includes(pool)) {
      pools = names;
      showPools();
    }
  } catch (error) {
    if (mine !== round || !running) return;
    if (error.status === 401 || error.status === 403) {
      end(error);
      return;
    }
    next = LIST_WHILE_DRAINING;
  }
  listing = setTimeout(relist, next);
}

let soon = null;

function relistSoon() {
  soon ??= setTimeout(() => {
    soon = null;
    relist();
  }, 250);
}

let relisted = 0;

/** The pool is not there any more. */
async function relistPools() {
  halt();
  const before = relisted;
  relisted = Date.now();
  if (relisted - before < 5000) refuse("The pool is gone", `The broker has no pool ${pool} that you may look at.`);
  else await begin();
}

// ---- Whether the broker is there.

function link(state, text) {
  setAttribute(byId("link"), "data-state", state);
  setText(byId("link-text"), text);
}

function connection(stream, state, error) {
  if (state === "live") away.delete(stream);
  else away.add(stream);
  if (stage !== "board") return;
  if (away.size === 0) {
    link("live", "Live");
    tell(byId("banner"), "");
  } else {
    link("away", "Reconnecting");
    const heard = lastHeard === 0 ? "" : ` What is shown is of ${timeOfDay(lastHeard)}.`;
    const why = error === undefined || error.isAway ? "The broker is away" : `The broker says: ${error.message}`;
    tell(byId("banner"), `${why}; the page connects again by itself.${heard}`);
  }
}

let hiding = null;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) {
    hiding = setTimeout(() => {
      if (running) halt();
    }, HIDDEN);
  } else if (stage === "board" && !running) {
    connect();
    if (view === "usage") usage.open(pool);
  }
});
window.addEventListener("online", () => {
  watching?.hurry();
  events.hurry();
});

eachSecond(() => {
  if (stage !== "board" || !running || away.has("watch")) return;
  numbers.everySecond();
  if (view === "keys") keys.tick();
});

// ---- The rest: look, help, shortcuts.

function showTheme() {
  const names = { system: "Auto", light: "Light", dark: "Dark" };
  setText(byId("theme"), `◐ ${names[theme()]}`);
  byId("theme").setAttribute("aria-label", `Look: ${names[theme()]}. Change it`);
}

const turnTheme = () => {
  nextTheme();
  showTheme();
};
byId("theme").addEventListener("click", turnTheme);
byId("help").addEventListener("click", openManual);
byId("shortcuts").checked = shortcuts();
byId("shortcuts").addEventListener("change", (event) => setShortcuts(event.target.checked));
byId("add-key").addEventListener("click", () => doing.addKey());
byId("reset-pool").addEventListener("click", () => doing.resetPool());

const KEYS = {
  1: () => go("keys"),
  2: () => go("usage"),
  3: () => go("events"),
  "/": () => {
    if (view !== "keys") go("keys");
    setTimeout(() => keys.focusFilter());
  },
  p: () => byId("pool").focus(),
  e: () => events.toggle(),
  t: turnTheme,
  "?": openManual,
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || !shortcuts()) return;
  if (event.target.closest("input, select, textarea, dialog")) return;
  if (document.querySelector("dialog[open]") !== null || (stage !== "board" && !["t", "?"].includes(event.key))) return;
  const act = KEYS[event.key];
  if (act !== undefined) {
    event.preventDefault();
    act();
  }
});

wireDialogs();
showTheme();
show(byId("plain-text"), location.protocol === "http:" && !/^(localhost|127\.|\[::1\])/.test(location.hostname));
enter("opening");
begin();
