/** What the broker sends of the page, and how it tells browsers to treat it. */

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { Broker, identity, project } from "./stage.js";

describe("an asset", () => {
  let broker;

  before(async () => {
    broker = await Broker.start(project("team-a") + identity("viewer", "viewer", "kbt_a-viewer"));
  });
  after(() => broker.end());

  const fetched = (path, headers = {}) => fetch(new URL(path, broker.url), { headers });

  /** All that the page loads, by following it. */
  async function all() {
    const found = new Map();
    const queue = [""];
    while (queue.length > 0) {
      const path = queue.pop();
      if (found.has(path)) continue;
      const answer = await fetched(path);
      const text = await answer.text();
      found.set(path, { answer, text });
      for (const [, link] of text.matchAll(/(?:src|href)="(page\/[^"]+)"/g)) queue.push(link);
      for (const [, module] of text.matchAll(/from "\.\/([^"]+)"/g)) queue.push(`page/${module}`);
    }
    return found;
  }

  it("is had by anybody, is what it says it is, and may do nothing but ask its broker", async () => {
    const types = { html: "text/html", css: "text/css", js: "text/javascript", svg: "image/svg+xml" };
    const assets = await all();
    assert.ok(assets.size > 15, [...assets.keys()].join());
    for (const [path, { answer, text }] of assets) {
      assert.equal(answer.status, 200, path);
      const kind = path === "" ? "html" : path.split(".").at(-1);
      assert.ok(answer.headers.get("content-type").startsWith(types[kind]), path);
      const policy = answer.headers.get("content-security-policy");
      for (const rule of [
        "default-src 'none'",
        "script-src 'self';",
        "style-src 'self';",
        "connect-src 'self';",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
      ]) {
        assert.ok(policy.includes(rule), `${path}: ${policy}`);
      }
      assert.doesNotMatch(policy, /unsafe|\*|https?:/);
      assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
      assert.equal(answer.headers.get("referrer-policy"), "no-referrer");
      assert.equal(answer.headers.get("x-frame-options"), "DENY");
      assert.doesNotMatch(
        text.replaceAll("http://www.w3.org/2000/svg", ""),
        /https?:\/\//,
        `${path} names another host`,
      );
      assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|<script>|style="/, path);
    }
  });

  it("is not sent again to a browser that has it", async () => {
    const first = await fetched("page/main.js");
    const tag = first.headers.get("etag");
    assert.match(tag, /^"[0-9a-f]{32}"$/);
    assert.equal(first.headers.get("cache-control"), "no-cache");
    for (const known of [tag, `W/${tag}`, `"other", ${tag}`]) {
      const again = await fetched("page/main.js", { "if-none-match": known });
      assert.equal(again.status, 304, known);
      assert.equal(await again.text(), "");
    }
    assert.equal((await fetched("page/main.js", { "if-none-match": '"other"' })).status, 200);
  });

  it("that is not there is not found, and what REST answers is kept by no browser", async () => {
    for (const path of ["page/other.js", "page/..%2fmod.rs", "page/"]) {
      assert.equal((await fetched(path)).status, 404, path);
    }
    for (const [path, status] of [
      ["v1/pools", 401],
      ["healthz", 200],
      ["metrics", 401],
    ]) {
      const answer = await fetched(path);
      assert.equal(answer.status, status, path);
      assert.equal(answer.headers.get("cache-control"), "no-store", path);
      assert.equal(answer.headers.get("x-content-type-options"), "nosniff", path);
      assert.match(answer.headers.get("content-security-policy"), /default-src 'none'/, path);
    }
  });
});
