// Questions before anything is changed, and short news of what was.

import { byId, h, setText, show, tell } from "./dom.js";

const TOAST = 6000;

/** Tells in a corner what was done, for a while. */
export function toast(text) {
  const element = h("p", { class: "toast" }, text);
  byId("toasts").append(element);
  setTimeout(() => element.remove(), TOAST);
}

/** Closes whatever is asked. */
export function closeAll() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
}

let confirming = null;

/**
 * Asks before something is done. `question` has `title`, `text`, `yes`, perhaps `reason` and `remove` (what is asked for
 * beside it), and `act({ reason, remove })`, whose error is told in the dialog.
 */
export function confirm(question) {
  confirming = question;
  setText(byId("confirm-title"), question.title);
  setText(byId("confirm-text"), question.text);
  setText(byId("confirm-yes"), question.yes);
  show(byId("confirm-reason-field"), question.reason === true);
  show(byId("confirm-remove-field"), question.remove === true);
  byId("confirm-reason").value = "";
  byId("confirm-remove").checked = false;
  byId("confirm-yes").classList.toggle("danger", question.grave === true);
  open("confirm", question.reason === true ? "confirm-reason" : "confirm-no");
}

/** Asks for a new key; `act(fields)` creates it. */
export function askForKey(pool, act) {
  byId("new-key-form").reset();
  setText(byId("new-key-text"), `It goes into the pool ${pool} and is leased at once.`);
  newKey = act;
  open("new-key", "new-key-secret");
}

let newKey = null;

/** Asks for the text that takes the place of a key's; `act(secret)` puts it there. */
export function askForRotation(id, act) {
  byId("rotate-form").reset();
  setText(byId("rotate-title"), `Rotate key ${id}?`);
  rotation = act;
  open("rotate", "rotate-secret");
}

let rotation = null;

/** Shows the help. */
export function openManual() {
  if (!byId("manual").open) byId("manual").showModal();
}

// What is asked now: an answer to an earlier question closes no later one.
let turn = 0;

function open(name, first) {
  turn += 1;
  tell(byId(`${name}-wrong`), "");
  byId(`${name}-yes`).disabled = false;
  byId(name).removeAttribute("aria-busy");
  byId(name).showModal();
  byId(first).focus();
}

function wire(name, act) {
  const dialog = byId(name);
  const yes = byId(`${name}-yes`);
  byId(`${name}-no`).addEventListener("click", () => dialog.close());
  byId(`${name}-form`).addEventListener("submit", async (event) => {
    event.preventDefault();
    if (yes.disabled) return;
    const mine = turn;
    tell(byId(`${name}-wrong`), "");
    yes.disabled = true;
    dialog.setAttribute("aria-busy", "true");
    let wrong = "";
    try {
      await act();
    } catch (error) {
      wrong = error.words ?? String(error);
    }
    if (mine !== turn || !dialog.open) {
      if (wrong !== "") toast(wrong);
      return;
    }
    yes.disabled = false;
    dialog.removeAttribute("aria-busy");
    tell(byId(`${name}-wrong`), wrong);
    if (wrong === "") dialog.close();
    else yes.focus();
  });
}

/** Makes the dialogs work. */
export function wireDialogs() {
  wire("confirm", () =>
    confirming.act({ reason: byId("confirm-reason").value.trim(), remove: byId("confirm-remove").checked }),
  );
  wire("new-key", () => {
    const value = (name) => byId(`new-key-${name}`).value.trim();
    return newKey({
      secret: value("secret"),
      id: value("id"),
      project: value("project"),
      tier: value("tier"),
      weight: value("weight"),
    });
  });
  wire("rotate", () => rotation(byId("rotate-secret").value.trim()));
  // What was typed does not stay in the document.
  for (const name of ["new-key", "rotate"]) {
    byId(name).addEventListener("close", () => byId(`${name}-form`).reset());
  }
  byId("manual-close").addEventListener("click", () => byId("manual").close());
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
    });
  }
}
