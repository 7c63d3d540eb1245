// A project as a card: its limits, its cooldowns, its keys and what can be done to them.

import { countDown, tick } from "./clock.js";
import { List, h, setAttribute, setText, show } from "./dom.js";
import { meter } from "./meters.js";
import { aboutWords } from "./standing.js";
import { amount, brief, limitWords, reasonWords, several } from "./words.js";

const STATUS = {
  ok: "Can serve",
  cooling: "Cooling down",
  problem: "Problem",
  disabled: "Disabled",
  draining: "Draining",
  drained: "Drained",
};

/** A line about a cooldown; `withSubject` says what cools down. */
export function cooldownLine(withSubject = true) {
  const subject = h("strong");
  const reason = h("span");
  const until = h("time", { "data-countdown": "" });
  const when = h("span", { class: "until" });
  const element = h("li", { class: "cooldown" }, h("span", {}, subject, " ", reason), when);
  return {
    element,
    update(cooldown) {
      const { about } = cooldown;
      const whole = about.kind === "project" || about.kind === "key" ? `the whole ${about.kind}` : about.kind;
      setText(subject, withSubject ? aboutWords(about) : about.model || whole);
      const ramping = cooldown.rampUntil !== undefined;
      const state = ramping ? "opening" : cooldown.probing ? "probing" : "closed";
      setAttribute(element, "data-state", state);
      setText(reason, cooldown.reason ? reasonWords(cooldown.reason) : "");
      const end = ramping ? cooldown.rampUntil : cooldown.until;
      if (state === "probing") {
        setText(when, "one lease is out to try it");
      } else if (end === undefined) {
        setText(when, "until somebody acts");
      } else {
        if (until.parentNode !== when) when.replaceChildren(h("span", { class: "when" }), until);
        setText(when.firstChild, ramping ? "opening slowly, for " : "");
        countDown(until, end);
      }
    },
  };
}

/** The limits of a card, by what they are about. */
export function limitList(container) {
  const titled = new List(container, () => {
    const name = h("span");
    const counted = h("span", { class: "counted" });
    const title = h("h4", { class: "limits-title" }, name, " ", counted);
    const grid = h("div", { class: "meters" });
    const list = new List(grid, () => meter());
    const element = h("div", { class: "limits-of" }, title, grid);
    return {
      element,
      update({ words, limits }) {
        setText(name, words);
        const only = limits.filter((limit) => limit.limit === null && limit.used > 0);
        setText(
          counted,
          only.map((limit) => `${amount(limit.name, limit.used, brief)} ${limitWords(limit.name)}`).join(", "),
        );
        const limited = limits.filter((limit) => limit.limit !== null);
        list.update(limited, (limit) => `${limit.subject}\n${limit.name}`);
        show(grid, limited.length > 0);
      },
    };
  });
  return {
    update(limits) {
      const groups = new Map();
      for (const limit of limits) {
        const { kind, id, model } = limit.about;
        const own = kind === "project" || kind === "key" || kind === "pool";
        const words = own
          ? model || "All models together"
          : kind === "model"
            ? `${id}, over all projects`
            : limit.subject;
        const group = groups.get(words) ?? { words, limits: [] };
        groups.set(words, group);
        group.limits.push(limit);
      }
      titled.update([...groups.values()], (group) => group.words);
    },
  };
}

function keyLine(act) {
  const id = h("span", { class: "key-id" });
  const preview = h("code", { class: "preview" });
  const status = h("span", { class: "badge" });
  const labels = h("span", { class: "labels" });
  const why = h("p", { class: "why" });
  const health = h("div", { class: "health-fill" });
  const healthTrack = h(
    "div",
    { class: "health-track", role: "meter", "aria-valuemin": 0, "aria-valuemax": 100 },
    health,
  );
  const healthText = h("span", { class: "health-text" });
  const healthBox = h("div", { class: "health" }, h("span", { class: "quiet" }, "Health"), healthTrack, healthText);
  const cooldowns = h("ul", { class: "plain" });
  const cooling = new List(cooldowns, () => cooldownLine(false));
  const limits = h("div", { class: "limits" });
  const limiting = limitList(limits);
  const enable = h("button", { type: "button", class: "small", "aria-haspopup": "dialog" });
  const drain = h("button", { type: "button", class: "small", "aria-haspopup": "dialog" }, "Drain");
  const rotate = h("button", { type: "button", class: "small", "aria-haspopup": "dialog" }, "Rotate");
  const reset = h("button", { type: "button", class: "small", "aria-haspopup": "dialog" }, "Reset cooldowns");
  const buttons = h("div", { class: "key-actions" }, reset, rotate, enable, drain);
  const title = h("div", { class: "key-title" }, id, preview, status, labels);
  const element = h("li", { class: "key" }, title, healthBox, buttons, why, cooldowns, limits);
  const labelList = new List(labels, () => {
    const element = h("span", { class: "chip" });
    return { element, update: (text) => setText(element, text) };
  });
  let shown;
  enable.addEventListener("click", () => act(shown.state === "active" ? "disable" : "enable", shown));
  drain.addEventListener("click", () => act("drain", shown));
  rotate.addEventListener("click", () => act("rotate", shown));
  reset.addEventListener("click", () => act("reset", shown));
  return {
    element,
    update({ key, project }) {
      shown = key;
      setText(id, key.id);
      setText(preview, key.preview);
      show(preview, key.preview !== "");
      const state = key.status === "off" ? key.state : key.status;
      setText(status, STATUS[state] ?? state);
      setAttribute(status, "data-tone", key.status);
      const chips = key.labels.map(([name, value]) => `${name}: ${value}`);
      if (key.weight !== 1) chips.push(`weight ${key.weight}`);
      if (key.priority !== null) chips.push(`class ${key.priority}`);
      labelList.update(chips, (text) => text);
      show(healthBox, key.health !== null);
      if (key.health !== null) {
        setAttribute(healthTrack, "aria-label", `Health of key ${key.id}`);
        setAttribute(healthTrack, "aria-valuenow", key.health);
        setAttribute(healthBox, "data-level", key.health >= 80 ? "ok" : key.health >= 40 ? "warn" : "full");
        health.style.transform = `scaleX(${key.health / 100})`;
        setText(healthText, String(key.health));
      }
      const gone = key.status === "problem" && key.problem === "" ? "This broker does not lease it yet." : key.problem;
      const note = [gone, key.reason, key.removeWhenDrained ? "It is deleted once it is drained." : ""];
      setText(why, note.filter(Boolean).join(" · "));
      show(why, why.textContent !== "");
      cooling.update(key.cooldowns, (cooldown) => cooldown.subject);
      show(cooldowns, key.cooldowns.length > 0);
      limiting.update(key.limits);
      show(limits, key.limits.length > 0);
      const active = key.state === "active";
      setText(enable, active ? "Disable" : "Enable");
      setAttribute(enable, "aria-label", `${active ? "Disable" : "Enable"} key ${key.id}`);
      setAttribute(drain, "aria-label", `Drain key ${key.id}`);
      setAttribute(rotate, "aria-label", `Rotate key ${key.id}`);
      setAttribute(reset, "aria-label", `Reset cooldowns of key ${key.id}`);
      show(drain, active);
      // The text of a configured key lies where the configuration says.
      show(rotate, key.runTime);
      show(reset, key.leased && (key.status === "cooling" || key.cooldowns.length + project.cooldowns.length > 0));
    },
  };
}

/** The card of a project; `act(what, key)` is asked for by its buttons. */
export function card(act) {
  const title = h("h3");
  const tier = h("span", { class: "chip" });
  const able = h("span", { class: "able" });
  const cooldowns = h("ul", { class: "plain" });
  const cooling = new List(cooldowns, () => cooldownLine(false));
  const limits = h("div", { class: "limits" });
  const limiting = limitList(limits);
  const none = h("p", { class: "quiet none" }, "Nothing is counted here yet.");
  const keys = h("ul", { class: "plain keys" });
  const lines = new List(keys, () => keyLine(act));
  const head = h("header", { class: "card-head" }, title, tier, able);
  const element = h("article", { class: "card project" }, head, cooldowns, limits, none, keys);
  return {
    element,
    update({ project, keys: shown }) {
      setText(title, project.id);
      setAttribute(element, "aria-label", `Project ${project.id}`);
      setAttribute(keys, "aria-label", `Keys of project ${project.id}`);
      setText(tier, project.tier);
      show(tier, project.tier !== "");
      const serving = project.keys.filter((key) => key.status === "ok").length;
      const part = project.cooldowns.some((cooldown) => cooldown.about.model !== "");
      setText(
        able,
        `${serving} of ${several(project.keys.length, "key")} can serve${serving > 0 && part ? ", not every model" : ""}`,
      );
      setAttribute(able, "data-tone", serving === 0 ? "bad" : serving < project.keys.length || part ? "warn" : "ok");
      cooling.update(project.cooldowns, (cooldown) => cooldown.subject);
      show(cooldowns, project.cooldowns.length > 0);
      limiting.update(project.limits);
      show(limits, project.limits.length > 0);
      show(none, project.limits.length === 0 && project.keys.every((key) => key.limits.length === 0));
      lines.update(
        shown.map((key) => ({ key, project })),
        ({ key }) => key.id,
      );
    },
    tick: () => tick(element),
  };
}
