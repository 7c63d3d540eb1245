// The pool in a few numbers, and what needs a look: what cools down, and what is nearly used up.

import { tick } from "./clock.js";
import { List, byId, setAttribute, setText, show } from "./dom.js";
import { cooldownLine } from "./groups.js";
import { meter } from "./meters.js";
import { share } from "./standing.js";
import { count, several } from "./words.js";

const SECONDS = 60;
const MOST_COOLDOWNS = 5;
const MOST_LIMITS = 4;

/** The section. */
export function overview() {
  const cooldowns = new List(byId("cooldowns"), () => cooldownLine(true));
  const fullest = new List(byId("fullest"), () => {
    const part = meter(true);
    const element = document.createElement("li");
    element.append(part.element);
    return { element, update: part.update };
  });
  const rates = { granted: [], refused: [] };
  let last = null;
  let counters = null;

  function update(standing) {
    const { totals } = standing;
    const off = [];
    if (totals.cooling > 0) off.push(`${count(totals.cooling)} cooling down`);
    if (totals.off > 0) off.push(`${count(totals.off)} off`);
    if (totals.problem > 0) off.push(`${several(totals.problem, "problem")}`);
    setText(byId("able"), `${count(totals.able)} of ${count(totals.keys)}`);
    setAttribute(byId("able"), "data-tone", totals.able === 0 ? "bad" : totals.able < totals.keys ? "warn" : "ok");
    if (off.length === 0 && standing.cooldowns.length > 0) off.push(several(standing.cooldowns.length, "cooldown"));
    setText(byId("able-note"), off.length > 0 ? off.join(", ") : "all well");
    counters = Object.fromEntries(
      ["granted", "refused", "settled", "waiting"].map((name) => [name, Number(standing.counters[name] ?? 0)]),
    );
    setText(byId("granted"), count(counters.granted));
    setText(byId("refusals"), count(counters.refused));
    setText(byId("waiting"), count(counters.waiting));
    setText(
      byId("waiting-note"),
      `${several(Math.max(0, counters.granted - counters.settled), "lease")} not reported yet`,
    );

    const soonest = standing.cooldowns.toSorted((a, b) => end(a) - end(b));
    cooldowns.update(soonest.slice(0, MOST_COOLDOWNS), (cooldown) => cooldown.subject);
    const more = soonest.length - MOST_COOLDOWNS;
    setText(
      byId("cooldowns-note"),
      soonest.length === 0 ? "Nothing is cooling down." : more > 0 ? `and ${count(more)} more` : "",
    );
    show(byId("cooldowns-note"), soonest.length === 0 || more > 0);

    const near = [];
    for (const limit of standing.limits) {
      const part = share(limit);
      if (part !== null && part > 0) near.push({ limit, part });
    }
    near.sort((a, b) => b.part - a.part);
    fullest.update(
      near.slice(0, MOST_LIMITS).map(({ limit }) => limit),
      (limit) => `${limit.subject}\n${limit.name}`,
    );
    setText(byId("fullest-note"), near.length === 0 ? "No limit has been used yet." : "");
    show(byId("fullest-note"), near.length === 0);
  }

  function everySecond() {
    tick(byId("cooling"));
    tick(byId("nearest"));
    if (counters === null) return;
    if (last !== null) {
      for (const name of ["granted", "refused"]) {
        rates[name].push(Math.max(0, counters[name] - last[name]));
        if (rates[name].length > SECONDS) rates[name].shift();
      }
    }
    last = counters;
    setText(byId("granted-note"), rate(rates.granted));
    setText(byId("refusals-note"), rate(rates.refused));
    draw(rates.granted);
  }

  return {
    update,
    everySecond,
    clear() {
      last = null;
      counters = null;
      rates.granted.length = 0;
      rates.refused.length = 0;
    },
  };
}

function end(cooldown) {
  const until = cooldown.rampUntil ?? cooldown.until;
  return until === undefined ? Infinity : Date.parse(until);
}

/** How many a second, over the last ten. */
function rate(values) {
  const recent = values.slice(-10);
  if (recent.length === 0) return "since this broker started";
  const mean = recent.reduce((sum, value) => sum + value, 0) / recent.length;
  return mean === 0 ? "none in the last 10 s" : `${mean.toFixed(1)} a second`;
}

function draw(values) {
  const spark = byId("spark");
  const most = Math.max(1, ...values);
  const points = values.map((value, at) => [
    ((at + SECONDS - values.length) * 120) / (SECONDS - 1),
    26 - (value / most) * 23,
  ]);
  const isFlat = points.length < 2 || values.every((value) => value === 0);
  show(spark, !isFlat);
  if (isFlat) return;
  const line = points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
  spark.querySelector(".spark-line").setAttribute("d", `M${line}`);
  spark.querySelector(".spark-area").setAttribute("d", `M${line}L120 28L${points[0][0].toFixed(1)} 28Z`);
}
