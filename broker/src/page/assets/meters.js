// Bars: how much of a limit is used, in colour, in text and for screen readers.

import { countDown } from "./clock.js";
import { h, setAttribute, setText, show } from "./dom.js";
import { aboutWords, share } from "./standing.js";
import { amount, brief, limitWords } from "./words.js";

/** From where on a bar warns. */
const WARNS = 0.75;

/** A bar for a limit that there is; `withSubject` names what is limited too. */
export function meter(withSubject = false) {
  const name = h("span", { class: "meter-name" });
  const value = h("span", { class: "meter-value" });
  const fill = h("div", { class: "meter-fill" });
  const track = h("div", { class: "meter-track", role: "meter", "aria-valuemin": 0 }, fill);
  const free = h("time", { "data-countdown": "" });
  const full = h("span", {}, "full, next free in ", free);
  const spent = h("time", { "data-countdown": "" });
  const ending = h("span", {}, "at this rate full in ", spent);
  const learned = h("span");
  const note = h("div", { class: "meter-note" }, full, ending, learned);
  const subject = withSubject ? h("div", { class: "meter-subject" }) : undefined;
  const element = h("div", { class: "meter" }, subject, h("div", { class: "meter-head" }, name, value), track, note);
  return {
    element,
    update(limit) {
      const part = share(limit);
      const level = part >= 1 ? "full" : part >= WARNS ? "warn" : "ok";
      setAttribute(element, "data-level", level);
      if (subject !== undefined) setText(subject, aboutWords(limit.about));
      setText(name, limitWords(limit.name));
      setText(value, `${amount(limit.name, limit.used, brief)} / ${amount(limit.name, limit.limit, brief)}`);
      fill.style.transform = `scaleX(${part})`;
      setAttribute(track, "aria-label", `${limit.subject}, ${limit.name}`);
      setAttribute(track, "aria-valuemax", limit.limit);
      setAttribute(track, "aria-valuenow", Math.min(limit.used, limit.limit));
      setAttribute(
        track,
        "aria-valuetext",
        `${amount(limit.name, limit.used)} of ${amount(limit.name, limit.limit)} used`,
      );
      const isFull = level === "full" && limit.nextFree !== undefined;
      show(full, isFull);
      if (isFull) countDown(free, limit.nextFree);
      const isEnding = !isFull && limit.exhaustedAt !== undefined;
      show(ending, isEnding);
      if (isEnding) countDown(spent, limit.exhaustedAt);
      const named = limit.learned !== null && limit.learned === limit.limit && limit.learned !== limit.configured;
      show(learned, named);
      if (named) {
        const configured =
          limit.configured === null ? "" : ` (configured: ${amount(limit.name, limit.configured, brief)})`;
        setText(learned, `learned from Google${configured}`);
      }
      show(note, isFull || isEnding || named);
    },
  };
}
