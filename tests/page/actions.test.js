/** What is done on the page is done by the broker, after a question, and by those who may. */

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { Broker, CANARY, Window, axe, closeBrowser, identity, openBrowser, project, until } from "./stage.js";

const TOKENS = {
  worker: "kbt_the-worker",
  viewer: "kbt_the-viewer",
  operator: "kbt_the-operator",
  admin: "kbt_the-admin",
};
const CONFIG =
  'default_plan = "off"\n[[pools]]\nname = "default"\n[[pools]]\nname = "batch"\n' +
  project("team-a", { rpm: 1000 }) +
  project("team-b", { rpm: 1000 }) +
  project("team-c", { pool: "batch" }) +
  ["viewer", "operator", "admin"].map((role) => identity(role, role, TOKENS[role])).join("") +
  identity("fleet", "worker", TOKENS.worker).replace('["worker"]', '["worker", "viewer"]') +
  identity("only-worker", "worker", "kbt_only-a-worker") +
  identity("of-batch", "operator", "kbt_of-batch") +
  'pools = ["batch"]\n';

describe("an action", () => {
  let broker;

  before(async () => {
    broker = await Broker.start(CONFIG, TOKENS.worker);
    await openBrowser();
  });
  after(async () => {
    await closeBrowser();
    await broker.end();
  });

  /** A window of somebody who signed in. */
  async function signedIn(role, path = "") {
    const window = await Window.open(broker, { path });
    await window.page.locator("#token").fill(TOKENS[role] ?? role);
    await window.page.getByRole("button", { name: "Sign in" }).click();
    await window.page.locator(".project").first().waitFor();
    return window;
  }

  const stateOf = async (key) => (await broker.get(`v1/pools/default/keys/${key}`)).state;
  const line = (page, key) => page.locator(".key").filter({ hasText: key });
  // All of the text: the buttons of a key read "DisableDrain" together, in which a part of a text is found.
  const shown = (page, key, status) => line(page, key).getByText(status, { exact: true }).waitFor();

  it("is asked about first, done, recorded with its reason, and shown", async () => {
    const window = await signedIn("operator");
    const { page } = window;
    const dialog = page.getByRole("dialog");
    const disable = page.getByRole("button", { name: "Disable key team-a-1" });

    await disable.click();
    await dialog.getByRole("button", { name: "Cancel" }).click();
    assert.equal(await stateOf("team-a-1"), "KEY_STATE_ACTIVE");
    await disable.click();
    assert.match(await dialog.textContent(), /Disable key team-a-1\?\s*It is leased no more until it is enabled/);
    await dialog.getByLabel(/Reason/).fill("rotated on <b>Monday</b>");
    await dialog.getByRole("button", { name: "Disable key" }).click();
    await shown(page, "team-a-1", "Disabled");
    assert.equal(await stateOf("team-a-1"), "KEY_STATE_DISABLED");
    assert.match(await line(page, "team-a-1").textContent(), /rotated on <b>Monday<\/b>/);
    assert.match(await page.locator("#toasts").textContent(), /Key team-a-1 is disabled\./);
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Enable key team-a-1");
    await until(
      () => page.locator("#able").textContent(),
      (text) => text === "1 of 2",
      "keys that can serve",
    );

    await page.getByRole("button", { name: "Enable key team-a-1" }).click();
    await dialog.getByRole("button", { name: "Enable key" }).click();
    await shown(page, "team-a-1", "Can serve");
    assert.equal(await stateOf("team-a-1"), "KEY_STATE_ACTIVE");
    await window.close();
  });

  it("drains a key: draining while a lease is out, then drained", async () => {
    const window = await signedIn("operator");
    const { page } = window;
    const lease = await broker.lease();
    await page.getByRole("button", { name: `Drain key ${lease.keyId}` }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Drain key" }).click();
    await shown(page, lease.keyId, "Draining");
    await broker.report(lease, { notSent: {} });
    await shown(page, lease.keyId, "Drained");
    assert.equal(await stateOf(lease.keyId), "KEY_STATE_DRAINED");
    await page.getByRole("button", { name: `Enable key ${lease.keyId}` }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Enable key" }).click();
    await shown(page, lease.keyId, "Can serve");
    await window.close();
  });

  it("resets the cooldowns of a key, and of the pool", async () => {
    const window = await signedIn("operator");
    const { page } = window;
    const isOut = async () =>
      ((await broker.get("v1/pools/default:inspect")).cooldowns ?? []).some(
        (one) => Date.parse(one.until) > Date.now(),
      );
    for (const whole of [false, true]) {
      const { keyId, project: cooled } = await broker.refused(
        { model: whole ? "gemini-2.5-pro" : "gemini-2.5-flash" },
        50,
      );
      const cooldown = page.getByRole("article", { name: `Project ${cooled}` }).locator(".cooldown[data-state=closed]");
      await cooldown.first().waitFor();
      assert.equal(await isOut(), true);
      if (whole) await page.locator("#reset-pool").click();
      else await page.getByRole("button", { name: `Reset cooldowns of key ${keyId}` }).click();
      await page
        .getByRole("dialog")
        .getByRole("button", { name: /^Reset (all )?cooldowns$/ })
        .click();
      await until(
        () => cooldown.count(),
        (count) => count === 0,
        "cooldowns that are shown",
      );
      assert.equal(await isOut(), false);
      assert.match(await page.locator("#toasts").textContent(), /1 cooldown ended\./);
    }
    await window.close();
  });

  it("adds a key, whose text stays nowhere, and deletes it once it is drained", async () => {
    const window = await signedIn("admin");
    const { page } = window;
    const dialog = page.getByRole("dialog");
    await page.locator("#add-key").click();
    await dialog.getByLabel("API key", { exact: true }).fill("short");
    await dialog.getByRole("button", { name: "Add key" }).click();
    await dialog.getByRole("alert").waitFor();
    await dialog.getByLabel("API key", { exact: true }).fill(`${CANARY}-of-the-page`);
    await dialog.getByLabel("Id (optional)").fill("new-1");
    await dialog.getByLabel("Project (optional)").fill("team-new");
    await dialog.getByRole("button", { name: "Add key" }).click();
    await shown(page, "new-1", "Can serve");
    assert.equal((await broker.get("v1/pools/default/keys/new-1")).project, "team-new");
    assert.equal(await page.locator("#new-key-secret").inputValue(), "");

    assert.equal(await page.getByRole("button", { name: "Rotate key team-a-1" }).count(), 0);
    const before = (await broker.get("v1/pools/default/keys/new-1")).keyPreview;
    await page.getByRole("button", { name: "Rotate key new-1" }).click();
    await dialog.getByRole("button", { name: "Rotate key" }).click();
    await dialog.getByRole("alert").getByText("Give the text of the new API key.").waitFor();
    await dialog.getByLabel("New API key").fill(`${CANARY}-rotated`);
    await dialog.getByRole("button", { name: "Rotate key" }).click();
    await page.locator("#toasts").getByText("Key new-1 is rotated.").waitFor();
    assert.notEqual((await broker.get("v1/pools/default/keys/new-1")).keyPreview, before);
    assert.equal(await page.locator("#rotate-secret").inputValue(), "");

    await page.getByRole("button", { name: "Drain key new-1" }).click();
    await dialog.getByLabel(/Delete the key/).check();
    await dialog.getByRole("button", { name: "Drain key" }).click();
    await until(
      () => line(page, "new-1").count(),
      (count) => count === 0,
      "lines of the key",
    );
    assert.equal((await broker.get("v1/pools/default/keys/new-1")).error.code, 404);
    await window.close();
  });

  it("that the role may not make is refused in words, and nothing happens", async () => {
    const viewer = await signedIn("viewer");
    const dialog = viewer.page.getByRole("dialog");
    await viewer.page.getByRole("button", { name: "Disable key team-b-1" }).click();
    await dialog.getByRole("button", { name: "Disable key" }).click();
    await dialog.getByRole("alert").waitFor();
    assert.match(await dialog.getByRole("alert").textContent(), /^You may not do this: .*operator/);
    await viewer.page.keyboard.press("Escape");
    assert.equal(await stateOf("team-b-1"), "KEY_STATE_ACTIVE");
    await viewer.close();

    const operator = await signedIn("operator");
    await operator.page.locator("#add-key").click();
    await operator.page.getByLabel("API key", { exact: true }).fill(`${CANARY}-never-added`);
    await operator.page.getByRole("dialog").getByRole("button", { name: "Add key" }).click();
    await operator.page.getByRole("alert").filter({ hasText: "You may not do this" }).waitFor();
    await operator.page.keyboard.press("Escape");
    await operator.close();
  });

  it("is for the pools that somebody may use, and of others nothing is shown", async () => {
    await broker.use();
    await broker.refused({ model: "gemini-of-default" });
    // Also where the address names another pool.
    for (const path of ["", "#default"]) {
      const window = await signedIn("kbt_of-batch", path);
      const { page } = window;
      await page.locator(".project").filter({ hasText: "team-c" }).waitFor();
      assert.deepEqual(await page.locator("#pool option").allTextContents(), ["batch"]);
      await page.getByRole("button", { name: "Disable key team-c-1" }).waitFor();
      const scope = page.locator("#usage-scope");
      if (await scope.isVisible()) await scope.selectOption("all");
      const shown = await page.content();
      for (const foreign of ["team-a", "team-b", "gemini-of-default"]) {
        assert.ok(!shown.includes(foreign), `${foreign} is shown`);
      }
      await window.close();
    }
  });

  it("is not for those who are not known: a wrong token is told, a token stays in its tab and goes with signing out", async () => {
    const window = await Window.open(broker);
    const { page } = window;
    await page.locator("#sign-in").waitFor();
    assert.equal(await page.locator("#sign-in-wrong").isVisible(), false);
    assert.equal(await page.locator("#board").isVisible(), false);
    await axe(page, "sign-in");
    await page.locator("#token").fill("kbt_somebody-else");
    await page.keyboard.press("Enter");
    await page.locator("#sign-in-wrong").waitFor();
    assert.match(await page.locator("#sign-in-wrong").textContent(), /^This token is not taken: /);
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);

    await page.locator("#token").fill("kbt_only-a-worker");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "You may not look at this" }).waitFor();
    assert.match(await page.locator("#refused-text").textContent(), /viewer/);
    await page.getByRole("button", { name: "Sign in as somebody else" }).click();

    await page.locator("#token").fill(TOKENS.viewer);
    await page.keyboard.press("Enter");
    await page.locator(".project").first().waitFor();
    assert.deepEqual(
      await page.evaluate(() => [
        Object.values({ ...localStorage }),
        Object.values({ ...sessionStorage }),
        document.cookie,
      ]),
      [[], [TOKENS.viewer], ""],
    );
    await page.reload();
    await page.locator(".project").first().waitFor();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.locator("#sign-in").waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    await page.reload();
    await page.locator("#sign-in").waitFor();
    await window.close();
  });
});
