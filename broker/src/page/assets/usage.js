// Who used how much: charts, and the same as a table.

import { getAll } from "./api.js";
import { COLOURS, columns, legend, ranks } from "./charts.js";
import { now } from "./clock.js";
import { byId, h, setText, show, tell } from "./dom.js";
import { brief, count, dollars, pacificDate } from "./words.js";

const BY = {
  CONSUMER: ["Consumer", "consumer", "no consumer named"],
  PROJECT: ["Project", "project", "no project"],
  KEY: ["Key", "keyId", "no key"],
  QUOTA_MODEL: ["Model", "quotaModel", "no model"],
  OUTCOME: ["Outcome", "outcome", "no outcome"],
  POOL: ["Pool", "pool", "no pool"],
};
const MEASURES = {
  requests: ["Requests", count, brief],
  totalTokens: ["Tokens", count, brief],
  spendMicros: ["US dollars", dollars, dollars],
  leases: ["Leases", count, brief],
};
const DAYS = { 1: "today", 7: "last 7 days", 30: "last 30 days", 90: "last 90 days" };
const COLUMNS = [
  ["leases", "Leases", count],
  ["requests", "Requests", count],
  ["inputTokens", "Input tokens", count],
  ["outputTokens", "Output tokens", count],
  ["totalTokens", "All tokens", count],
  ["spendMicros", "US dollars", dollars],
  ["requestsOverPlan", "Over plan", count],
];
const MOST_BARS = 12;
const MOST_ROWS = 500;
const MOST_READ = 20_000;
const DAY = 24 * 3600 * 1000;
const AGAIN = 30_000;

/** The view; `refused(error)` is told of answers that end a session. */
export function usageView(refused) {
  const choice = {
    by: byId("usage-by"),
    measure: byId("usage-measure"),
    days: byId("usage-days"),
    scope: byId("usage-scope"),
  };
  for (const [value, [words]] of Object.entries(BY)) choice.by.append(h("option", { value }, words.toLowerCase()));
  for (const [value, [words]] of Object.entries(MEASURES))
    choice.measure.append(h("option", { value }, words === "US dollars" ? words : words.toLowerCase()));
  for (const [value, words] of Object.entries(DAYS)) choice.days.append(h("option", { value }, words));
  choice.days.value = "7";

  let pool = "";
  let open = false;
  let asked = 0;
  let timer = null;
  let sums = null;

  async function ask() {
    clearTimeout(timer);
    if (!open) return;
    const number = ++asked;
    const [today, days] = [now(), Number(choice.days.value)];
    const from = pacificDate(today - (days - 1) * DAY);
    const to = pacificDate(today);
    const by = choice.by.value;
    const query = { fromDate: from, toDate: to, groupBy: ["DATE", by], pageSize: 5000 };
    try {
      const path = `v1/pools/${choice.scope.value === "all" ? "-" : encodeURIComponent(pool)}/usage`;
      const rows = await getAll(path, "rows", query, MOST_READ);
      if (number !== asked || !open) return;
      tell(byId("usage-wrong"), rows.length >= MOST_READ ? "There is more than is shown here: choose fewer days." : "");
      const range = from === to ? `${to}, Pacific time` : `${from} to ${to}, Pacific days`;
      setText(byId("usage-range"), range);
      sums = addUp(rows, by, from, days);
      draw();
    } catch (error) {
      if (number !== asked || !open) return;
      if (error.status === 401) refused(error);
      else tell(byId("usage-wrong"), error.words ?? String(error));
    }
    timer = setTimeout(ask, AGAIN);
  }

  function draw() {
    if (sums === null || !open) return;
    const measure = choice.measure.value;
    const [what, full, short] = MEASURES[measure];
    const sorted = [...sums.rows].sort((a, b) => b[measure] - a[measure] || (a.name < b.name ? -1 : 1));
    const used = sorted.filter((row) => row[measure] > 0);
    show(byId("usage-empty"), sums.rows.length === 0);
    show(byId("usage-charts"), used.length > 0);
    show(byId("usage-details"), sums.rows.length > 0);
    const by = BY[sums.by][0].toLowerCase();

    if (used.length > 0) {
      const bars = shorten(used, MOST_BARS, measure).map((row, at) => ({
        name: row.name,
        value: row[measure],
        text: full(row[measure]),
        colour: Math.min(at, COLOURS - 1),
      }));
      const title = `${what} by ${by}`;
      setText(byId("ranks-title"), title);
      ranks(byId("ranks"), title, bars);
      const titles = `${what} by day and ${by}`;
      show(byId("days-figure"), sums.days.length > 1);
      if (sums.days.length > 1) {
        const colours = new Map(used.slice(0, COLOURS - 1).map((row, at) => [row.name, at]));
        const days = sums.days.map((day) => ({ name: day.name, parts: partsOf(day, colours, measure, full) }));
        setText(byId("days-title"), titles);
        columns(byId("days"), titles, days, (value) =>
          short(measure === "spendMicros" ? value : Math.round(value * 10) / 10),
        );
        const names = [...colours].map(([name, colour]) => ({ name, colour }));
        if (used.length > colours.size) names.push({ name: "all others", colour: COLOURS - 1 });
        legend(byId("days-legend"), names);
      }
    }
    table(sorted, BY[sums.by][0]);
  }

  byId("usage-form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  for (const name of ["by", "days", "scope"]) choice[name].addEventListener("change", ask);
  choice.measure.addEventListener("change", draw);
  let width = 0;
  new ResizeObserver(() => {
    const next = byId("ranks").clientWidth;
    if (next !== width && next > 0) {
      width = next;
      draw();
    }
  }).observe(byId("usage-charts"));

  return {
    open(name) {
      if (name !== pool) sums = null;
      pool = name;
      open = true;
      ask();
    },
    close() {
      open = false;
      clearTimeout(timer);
    },
  };
}

/** Rows by name, and the same by day. */
function addUp(rows, by, from, length) {
  const [, field, none] = BY[by];
  const totals = new Map();
  const first = Date.parse(`${from}T00:00:00Z`);
  const days = Array.from({ length }, (_, at) => ({
    name: new Date(first + at * DAY).toISOString().slice(0, 10),
    byName: new Map(),
  }));
  const byDate = new Map(days.map((day) => [day.name, day]));
  for (const row of rows) {
    const name = row[field] || none;
    let total = totals.get(name);
    if (total === undefined)
      totals.set(name, (total = { name, ...Object.fromEntries(COLUMNS.map(([column]) => [column, 0])) }));
    const day = byDate.get(row.date)?.byName;
    const of = day?.get(name) ?? { name };
    for (const [column] of COLUMNS) {
      const value = Number(row[column] ?? 0);
      total[column] += value;
      of[column] = (of[column] ?? 0) + value;
    }
    day?.set(name, of);
  }
  return { by, rows: [...totals.values()], days };
}

function shorten(rows, most, measure) {
  if (rows.length <= most) return rows;
  const rest = rows.slice(most - 1);
  const others = rest.reduce((sum, row) => sum + row[measure], 0);
  return [...rows.slice(0, most - 1), { name: `all ${count(rest.length)} others`, [measure]: others }];
}

function partsOf(day, colours, measure, format) {
  const parts = [];
  let others = 0;
  for (const [name, row] of day.byName) {
    const colour = colours.get(name);
    if (colour === undefined) others += row[measure];
    else parts.push({ name, value: row[measure], text: format(row[measure]), colour });
  }
  parts.sort((a, b) => a.colour - b.colour);
  if (others > 0) parts.push({ name: "all others", value: others, text: format(others), colour: COLOURS - 1 });
  return parts;
}

function table(rows, by) {
  const head = h(
    "tr",
    {},
    h("th", { scope: "col" }, by),
    ...COLUMNS.map(([, words]) => h("th", { scope: "col", class: "number" }, words)),
  );
  const body = rows
    .slice(0, MOST_ROWS)
    .map((row) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, row.name),
        ...COLUMNS.map(([column, , format]) => h("td", { class: "number" }, format(row[column]))),
      ),
    );
  if (rows.length > MOST_ROWS)
    body.push(
      h(
        "tr",
        {},
        h(
          "td",
          { colspan: COLUMNS.length + 1 },
          `and ${count(rows.length - MOST_ROWS)} more: keybroker usage tells all`,
        ),
      ),
    );
  const [thead, tbody] = byId("usage-table").children;
  thead.replaceChildren(head);
  tbody.replaceChildren(...body);
}
