// Charts as SVG: who used how much, and how much on each day.

import { h, svg } from "./dom.js";

/** As many colours as `parts.css` has. */
export const COLOURS = 7;

/** About how wide a letter is, for names that do not fit. */
const LETTER = 7.2;

/** Bars, the longest first: rows are `{ name, value, text, colour }`. */
export function ranks(container, title, rows) {
  const width = Math.max(240, container.clientWidth);
  const step = 40;
  const height = rows.length * step;
  const most = Math.max(...rows.map((row) => row.value), 1e-9);
  const chart = frame(width, height, title, rows.map((row) => `${row.name}: ${row.text}`).join("; "));
  rows.forEach((row, at) => {
    const y = at * step;
    const room = width - row.text.length * LETTER - 16;
    chart.append(
      svg("text", { x: 0, y: y + 15, class: "chart-name" }, svg("title", {}, row.name), fit(row.name, room)),
      svg("text", { x: width, y: y + 15, class: "chart-value", "text-anchor": "end" }, row.text),
      svg("rect", { x: 0, y: y + 22, width, height: 9, rx: 4.5, class: "chart-track" }),
      svg("rect", {
        x: 0,
        y: y + 22,
        width: Math.max(3, (row.value / most) * width),
        height: 9,
        rx: 4.5,
        class: `series-${row.colour}`,
      }),
    );
  });
  container.replaceChildren(chart);
}

/** Stacked columns: days are `{ name, parts: [{ name, value, text, colour }] }`. */
export function columns(container, title, days, format) {
  const width = Math.max(240, container.clientWidth);
  const height = 240;
  const [left, bottom, top] = [56, 24, 8];
  const sums = days.map((day) => day.parts.reduce((sum, part) => sum + part.value, 0));
  const most = nice(Math.max(...sums, 1e-9));
  const told = days.map((day, at) => `${day.name}: ${format(sums[at])}`).join("; ");
  const chart = frame(width, height, title, told);
  const y = (value) => top + (1 - value / most) * (height - bottom - top);
  for (const tick of [0, 0.5, 1]) {
    const at = y(tick * most);
    chart.append(
      svg("line", { x1: left, x2: width, y1: at, y2: at, class: "chart-line" }),
      svg("text", { x: left - 8, y: at + 4, class: "chart-tick", "text-anchor": "end" }, format(tick * most)),
    );
  }
  const step = (width - left) / days.length;
  const every = Math.ceil(46 / step);
  days.forEach((day, at) => {
    const x = left + at * step + step * 0.15;
    let sum = 0;
    for (const part of day.parts) {
      if (part.value <= 0) continue;
      const [from, to] = [y(sum), y(sum + part.value)];
      sum += part.value;
      const area = {
        x,
        y: to,
        width: Math.min(step * 0.7, 64),
        height: Math.max(0.5, from - to - 1),
        class: `series-${part.colour}`,
      };
      chart.append(svg("rect", area, svg("title", {}, `${day.name}, ${part.name}: ${part.text}`)));
    }
    if (at % every === 0) {
      const middle = x + Math.min(step * 0.7, 64) / 2;
      chart.append(
        svg("text", { x: middle, y: height - 6, class: "chart-tick", "text-anchor": "middle" }, day.name.slice(5)),
      );
    }
  });
  container.replaceChildren(chart);
}

/** What the colours stand for. */
export function legend(container, entries) {
  container.replaceChildren(
    ...entries.map(({ name, colour }) =>
      h("li", {}, h("span", { class: `swatch series-${colour}`, "aria-hidden": "true" }), h("span", {}, name)),
    ),
  );
}

function frame(width, height, title, told) {
  const chart = svg("svg", {
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": `${title}. ${told}`,
  });
  return chart;
}

function fit(text, room) {
  const letters = Math.max(4, Math.floor(room / LETTER));
  return text.length <= letters ? text : `${text.slice(0, letters - 1)}…`;
}

/** The next round number from here on. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}
