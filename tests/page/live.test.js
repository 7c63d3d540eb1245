/** The page shows how a pool stands, and what changes as it changes. */

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { Broker, CANARY, Window, closeBrowser, openBrowser, project, until } from "./stage.js";

const CONFIG =
  'default_plan = "off"\n[[pools]]\nname = "default"\n[[pools]]\nname = "batch"\n' +
  project("team-a", { keys: 2, rpm: 20, labels: ', labels = { owner = "search" }' }) +
  project("team-b", { rpm: 10 }) +
  project("nightly", { pool: "batch" });

describe("the page", () => {
  let broker;

  before(async () => {
    broker = await Broker.start(CONFIG);
    await openBrowser();
  });
  after(async () => {
    await closeBrowser();
    await broker.end();
  });

  it("shows a pool, its projects and keys, and no sign-in where nobody is asked", async () => {
    const window = await Window.open(broker);
    const { page } = window;
    await page.getByRole("article", { name: "Project team-a" }).waitFor();
    assert.equal(await page.locator("#sign-in").isVisible(), false);
    assert.equal(await page.locator("#link-text").textContent(), "Live");
    assert.match(await page.title(), /^default: 3 of 3 keys/);
    const card = page.getByRole("article", { name: "Project team-a" });
    assert.equal(await card.locator(".key").count(), 2);
    assert.match(await card.locator(".key").first().textContent(), /team-a-1.*Can serve.*owner: search/);

    await page.locator("#filter").fill("team-b");
    await until(
      () => page.locator(".slot").count(),
      (count) => count === 1,
      "projects that fit the filter",
    );
    await page.locator("#filter").fill("");

    await page.locator("#pool").selectOption("batch");
    await page.getByRole("article", { name: "Project nightly" }).waitFor();
    assert.equal(await page.locator(".slot").count(), 1);
    assert.match(page.url(), /#batch\/keys$/);
    await page.reload();
    await page.getByRole("article", { name: "Project nightly" }).waitFor();
    await window.close();
  });

  it("shows a lease on the bars of its project as it is taken, and where it is the number in words", async () => {
    const window = await Window.open(broker);
    const { page } = window;
    await page.locator(".project").first().waitFor();
    const { project: leased } = await broker.use();
    const bar = page
      .getByRole("meter", { name: `project ${leased}, model gemini-2.5-flash, requests per minute` })
      .last();
    await bar.waitFor({ state: "attached" });
    const before_ = Number(await bar.getAttribute("aria-valuenow"));
    assert.ok(before_ >= 1);
    await broker.use({ project: leased });
    await until(
      () => bar.getAttribute("aria-valuenow"),
      (now) => Number(now) === before_ + 1,
      "the bar",
    );
    assert.match(await bar.getAttribute("aria-valuetext"), new RegExp(`^${before_ + 1} of \\d+ used$`));
    const [fill, full] = await bar.evaluate((track) => [
      track.firstChild.getBoundingClientRect().width,
      track.clientWidth,
    ]);
    const limit = Number(await bar.getAttribute("aria-valuemax"));
    assert.ok(Math.abs(fill / full - (before_ + 1) / limit) < 0.02, `${fill} of ${full}`);
    await until(
      () => page.locator("#granted").textContent(),
      (text) => Number(text) >= 2,
      "leases granted",
    );
    await window.close();
  });

  it("shows what Google refuses as a cooldown that counts down, with its reason, and as an event", async () => {
    const window = await Window.open(broker);
    const { page } = window;
    await page.locator(".project").first().waitFor();
    const { project: cooled } = await broker.refused({}, 45);
    const card = page.getByRole("article", { name: `Project ${cooled}` });
    const line = card.locator(".cooldown").first();
    await line.waitFor();
    assert.match(await line.textContent(), /gemini-2\.5-flash the minute’s quota is spent\s*\d+ s/);
    const seconds = async () => Number.parseInt(await line.locator("time").textContent(), 10);
    const first = await seconds();
    assert.ok(first > 0 && first <= 60, String(first));
    await until(seconds, (now) => now < first, "the countdown");
    assert.match(await page.locator("#cooldowns").textContent(), new RegExp(`${cooled}, gemini-2.5-flash`));

    const event = page.locator(".event[data-kind=cooldown_begun]").first();
    await event.waitFor();
    assert.match(
      await event.textContent(),
      new RegExp(`Cooldown begun.*project ${cooled}, model gemini-2.5-flash cools down`),
    );
    await until(
      () => page.locator("#announcer").textContent(),
      (text) => text.includes(cooled),
      "what is said to screen readers",
    );

    const shown = await page.locator(".event").count();
    await page.locator("#pause").click();
    await broker.refused({ model: "gemini-2.5-pro" }, 45);
    await until(
      () => page.locator("#events-note").textContent(),
      (text) => /Paused, [1-9] new event/.test(text),
      "the note",
    );
    assert.equal(await page.locator(".event").count(), shown);
    await page.locator("#pause").click();
    assert.ok((await page.locator(".event").count()) > shown);
    await page.locator("#event-kind").selectOption("key_disabled");
    assert.equal(await page.locator(".event:visible").count(), 0);
    await window.close();

    // What the page reads of streams is not among the answers that its window looks at.
    for (const [path, known] of [
      ["v1/events?recent=256", "cooldown_begun"],
      ["v1/pools/default:watch", "team-a-1"],
    ]) {
      const told = await broker.beginning(path);
      assert.ok(told.includes(known) && !told.includes(CANARY), told);
    }
  });

  it("shows who used how much as charts, and the same as a table", async () => {
    for (const [consumer, times] of [
      ["ann@example.com", 3],
      ["reports", 1],
    ]) {
      for (let time = 0; time < times; time++) await broker.use({ pool: "batch", consumer });
    }
    const window = await Window.open(broker, { path: "#batch/usage" });
    const { page } = window;
    const chart = page.locator("#ranks svg");
    await chart.waitFor();
    assert.match(await chart.getAttribute("aria-label"), /^Requests by consumer\. ann@example\.com: 3; reports: 1/);
    assert.deepEqual(await chart.locator(".chart-value").allTextContents(), ["3", "1"]);
    assert.equal(await page.locator("#days svg rect").count(), 2);
    assert.deepEqual(await page.locator("#usage-table tbody tr").first().locator("th, td").allTextContents(), [
      "ann@example.com",
      "3",
      "3",
      "2,700",
      "1,050",
      "3,750",
      "$0.00",
      "0",
    ]);
    await page.locator("#usage-measure").selectOption("totalTokens");
    assert.deepEqual(await chart.locator(".chart-value").allTextContents(), ["3,750", "1,250"]);
    await page.locator("#usage-by").selectOption("KEY");
    await until(
      () => chart.locator(".chart-name").allTextContents(),
      (names) => names.join().includes("nightly-1"),
      "keys",
    );
    await window.close();
  });

  it("says when the broker is away, and goes on when it is back", async () => {
    const window = await Window.open(broker);
    const { page } = window;
    await page.locator(".project").first().waitFor();
    await broker.stop();
    await page.locator("#banner").waitFor();
    assert.match(await page.locator("#banner").textContent(), /The broker is away; the page connects again by itself/);
    assert.equal(await page.locator("#link-text").textContent(), "Reconnecting");
    assert.ok(await page.locator(".project").first().isVisible(), "what was known stays");
    await broker.begin();
    await until(
      () => page.locator("#link-text").textContent(),
      (text) => text === "Live",
      "the connection",
    );
    assert.equal(await page.locator("#banner").isVisible(), false);
    const before_ = Number(await page.locator("#granted").textContent());
    await broker.use({ model: "gemini-2.5-flash-lite" });
    await until(
      () => page.locator("#granted").textContent(),
      (text) => Number(text) !== before_,
      "leases granted",
    );
    await window.close();
  });
});
