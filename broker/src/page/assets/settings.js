// What a person chose for this page. The token stays in the tab's own storage; nothing else of the broker is kept.

const TOKEN = "keybroker.token";
const THEME = "keybroker.theme";
const SHORTCUTS = "keybroker.shortcuts";
const THEMES = ["system", "light", "dark"];

// A browser may forbid storage: then choices last as long as the page.
const memory = new Map();

function read(storage, name) {
  try {
    return window[storage].getItem(name);
  } catch {
    return memory.get(name) ?? null;
  }
}

function write(storage, name, value) {
  try {
    if (value === null) {
      window[storage].removeItem(name);
    } else {
      window[storage].setItem(name, value);
    }
  } catch {
    memory.set(name, value);
  }
}

/** The token that is sent, if there is one. */
export function token() {
  return read("sessionStorage", TOKEN);
}

/** Sends this token from now on; null: none. */
export function setToken(value) {
  write("sessionStorage", TOKEN, value);
}

/** "system", "light" or "dark". */
export function theme() {
  const theme = read("localStorage", THEME);
  return THEMES.includes(theme) ? theme : "system";
}

/** Takes the next look. */
export function nextTheme() {
  const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
  write("localStorage", THEME, next === "system" ? null : next);
  if (next === "system") {
    delete document.documentElement.dataset.theme;
  } else {
    document.documentElement.dataset.theme = next;
  }
  return next;
}

/** Whether single keys are shortcuts. */
export function shortcuts() {
  return read("localStorage", SHORTCUTS) !== "off";
}

/** Whether they are from now on. */
export function setShortcuts(on) {
  write("localStorage", SHORTCUTS, on ? null : "off");
}
