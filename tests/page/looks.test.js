/** The page can be used by everybody: by keyboard, by screen reader, on a phone, in light and dark, with many keys. */

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { Broker, Window, axe, closeBrowser, openBrowser, project, until } from "./stage.js";

const HOSTILE_LABEL = "<img src=x onerror=document.title=1><script>document.title=2</script>";
const HOSTILE_CONSUMER = "<svg/onload=document.title=3>\"'><b>";
const MANY = 1000;

const CONFIG =
  'default_plan = "guest"\n[[plans]]\nname = "guest"\nmode = "soft"\nrequests_per_minute = 500\n' +
  '[[pools]]\nname = "default"\ntotals = { requests_per_day = 5000 }\n[[pools]]\nname = "large"\n' +
  project("team-a", { keys: 2, rpm: 6, labels: `, labels = { owner = "${HOSTILE_LABEL}" }` }) +
  project("team-b", { rpm: 10, tier: "paid" }) +
  Array.from({ length: MANY }, (_, at) => project(`p${at}`, { pool: "large" })).join("");

describe("the page", () => {
  let broker;

  before(async () => {
    broker = await Broker.start(CONFIG);
    await openBrowser();
    for (let time = 0; time < 8; time++) await broker.use({ consumer: time % 2 ? HOSTILE_CONSUMER : "ann" });
    await broker.refused({ consumer: HOSTILE_CONSUMER }, 50);
  });
  after(async () => {
    await closeBrowser();
    await broker.end();
  });

  for (const colorScheme of ["light", "dark"]) {
    it(`has nothing that axe finds wrong, in ${colorScheme}`, async () => {
      const window = await Window.open(broker, { colorScheme });
      const { page } = window;
      await page.locator(".event").first().waitFor();
      await page.locator(".project .meter").first().waitFor();
      await axe(page, "keys");
      await page.getByRole("button", { name: "Disable key team-a-1" }).click();
      await axe(page, "a question");
      await page.keyboard.press("Escape");
      await page.goto(`${broker.url}#default/usage`);
      await page.locator("#ranks svg").waitFor();
      await axe(page, "usage");
      await page.goto(`${broker.url}#default/events`);
      await axe(page, "events");
      await window.close();
    });
  }

  it("takes the look of the system, or the one that is chosen", async () => {
    const window = await Window.open(broker, { colorScheme: "dark" });
    const { page } = window;
    const brightness = () =>
      page.evaluate(() => Number(/\d+/.exec(getComputedStyle(document.body).backgroundColor)[0]));
    await page.locator(".project").first().waitFor();
    assert.ok((await brightness()) < 60);
    await page.locator("#theme").click();
    assert.ok((await brightness()) > 200);
    await page.reload();
    assert.ok((await brightness()) > 200);
    await window.close();
  });

  it("fits a phone, with targets for fingers", async () => {
    for (const [width, height] of [
      [390, 844],
      [360, 640],
    ]) {
      const window = await Window.open(broker, { viewport: { width, height }, isMobile: true, hasTouch: true });
      const { page } = window;
      for (const view of ["keys", "usage", "events"]) {
        await page.goto(`${broker.url}#default/${view}`);
        await page.locator({ keys: ".project .meter", usage: "#ranks svg", events: ".event" }[view]).first().waitFor();
        const over = await page.evaluate(
          () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
        );
        assert.equal(over, 0, `${view} is wider than ${width} pixels`);
      }
      await page.goto(`${broker.url}#default/keys`);
      await page.getByRole("button", { name: "Disable key team-a-1" }).click();
      const box = await page.getByRole("dialog").boundingBox();
      assert.ok(box.x >= 0 && box.x + box.width <= width, JSON.stringify(box));
      await page.keyboard.press("Escape");
      const small = await page
        .locator("button:visible, select:visible, nav a:visible")
        .evaluateAll((all) => all.filter((one) => one.getBoundingClientRect().height < 30).map((one) => one.outerHTML));
      assert.deepEqual(small, []);
      await window.close();
    }
  });

  it("is walked through by keyboard alone", async () => {
    const window = await Window.open(broker);
    const { page } = window;
    await page.locator(".project").first().waitFor();
    const focused = () =>
      page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent);
    const focusedId = () => page.evaluate(() => document.activeElement.id);
    await page.keyboard.press("Tab");
    assert.equal(await focusedId(), "skip");
    await page.keyboard.press("Enter");
    assert.equal(await focusedId(), "content");
    // From here on with Tab to the first key's button.
    for (let steps = 0; (await focused()) !== "Disable key team-a-1"; steps++) {
      assert.ok(steps < 12, await focused());
      const ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
      assert.ok(steps === 0 || ring !== "none", `no focus is shown on ${await focused()}`);
      await page.keyboard.press("Tab");
    }
    await page.keyboard.press("Enter");
    await page.getByRole("dialog").waitFor();
    assert.equal(await focusedId(), "confirm-reason");
    for (let steps = 0; steps < 8; steps++) {
      await page.keyboard.press("Tab");
      const inside = await page.evaluate(
        () => document.activeElement === document.body || document.activeElement.closest("dialog") !== null,
      );
      assert.ok(inside, "focus leaves the dialog");
    }
    await page.keyboard.press("Escape");
    assert.equal(await focused(), "Disable key team-a-1");

    await page.keyboard.press("2");
    await page.locator("#usage").waitFor();
    await page.keyboard.press("3");
    await page.locator("body[data-view=events]").waitFor();
    await page.keyboard.press("e");
    assert.equal(await page.locator("#pause").getAttribute("aria-pressed"), "true");
    await page.keyboard.press("e");
    await page.keyboard.press("/");
    await until(focusedId, (id) => id === "filter", "focus");
    await page.keyboard.type("team-b?");
    assert.equal(await page.locator("#filter").inputValue(), "team-b?", "what is typed is no shortcut");
    await page.locator("#filter").fill("");
    await page.locator("#help").focus();
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Help" }).waitFor();
    await page.getByLabel("Single keys are shortcuts").uncheck();
    await page.keyboard.press("Escape");
    await page.keyboard.press("2");
    assert.equal(await page.locator("#usage").isVisible(), false, "shortcuts can be switched off");
    await window.close();
  });

  it("shows names as text, whatever they are", async () => {
    const window = await Window.open(broker);
    const { page } = window;
    await page.locator(".key").first().waitFor();
    const title = await page.title();
    assert.match(title, /^default: /);
    assert.equal(await page.locator(".key .chip").first().textContent(), `owner: ${HOSTILE_LABEL}`);
    await page.goto(`${broker.url}#default/usage`);
    await page.locator("#ranks svg").waitFor();
    const rows = await page.locator("#usage-table tbody th").allTextContents();
    assert.ok(rows.includes(HOSTILE_CONSUMER), rows.join());
    await page.goto(`${broker.url}#default/events`);
    await page.locator(".event", { hasText: HOSTILE_CONSUMER }).first().waitFor();
    assert.equal(await page.locator("main img, main script, .event svg, th svg").count(), 0);
    assert.match(await page.title(), /^default: /);
    await window.close();
  });

  it("does not touch what is not seen of a thousand keys", async () => {
    await broker.use({ pool: "large" });
    const window = await Window.open(broker, { path: "#large/keys" });
    const { page } = window;
    await until(
      () => page.locator("#shown").textContent(),
      (text) => text === "1,000 projects, 1,000 keys",
      "what is shown",
    );
    await until(
      () => page.locator(".project").count(),
      (count) => count === MANY,
      "cards",
    );
    const { project: leased } = await broker.use({ pool: "large" });
    await page.locator("#filter").fill(`${leased}-1`);
    const card = page.getByRole("article", { name: `Project ${leased}`, exact: true });
    await card
      .getByRole("meter", { name: /requests per minute/ })
      .first()
      .waitFor();
    await page.locator("#filter").fill("");
    await until(
      () => page.locator(".slot").count(),
      (count) => count === MANY,
      "cards",
    );
    // Of what changes everywhere, only what is on the screen is touched.
    await page.waitForFunction((many) => document.querySelectorAll(".project").length === many, MANY);
    await page.evaluate(() => {
      globalThis.touched = new Set();
      new MutationObserver((changes) => {
        for (const { target } of changes) globalThis.touched.add(target.parentElement?.closest(".slot"));
      }).observe(document.getElementById("groups"), {
        subtree: true,
        childList: true,
        characterData: true,
        attributes: true,
      });
    });
    await broker.use({ pool: "large", model: "gemini-2.5-pro" });
    await page.locator(".limits-title", { hasText: "gemini-2.5-pro" }).first().waitFor();
    const touched = await page.evaluate(() => globalThis.touched.size);
    assert.ok(touched > 0 && touched < 60, `${touched} cards are touched`);
    await window.close();
  });
});
