/** Brokers and browsers of a test's own. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash, randomInt } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { credentials, loadPackageDefinition, Metadata } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const BIN = process.env.KEYBROKER_BIN ?? join(ROOT, "target", "quick");
const PATIENCE = 20_000;

/** A part of every key's text: nothing that a browser gets may hold it. */
export const CANARY = "fake-key-canary";

const proto = loadSync("keybroker/v1/keybroker.proto", {
  includeDirs: [join(ROOT, "proto")],
  defaults: true,
  enums: String,
  longs: Number,
});
const { KeyBroker } = loadPackageDefinition(proto).keybroker.v1;

/** A port at which nobody listens, below those that are given to outgoing connections. */
async function freePort() {
  for (let tries = 0; tries < 100; tries++) {
    const port = randomInt(15_000, 32_000);
    const server = createServer();
    const isFree = await new Promise((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (isFree) {
      await new Promise((resolve) => server.close(resolve));
      return port;
    }
  }
  throw new Error("no port of a hundred is free");
}

/** A project of the configuration, with so many keys. */
export function project(id, { keys = 1, pool = "default", tier = "free", rpm = 60, labels = "" } = {}) {
  const listed = Array.from({ length: keys }, (_, at) => {
    const key = `${id}-${at + 1}`;
    return `{ id = "${key}", secret = "${CANARY}-${key}"${labels} }`;
  });
  return (
    `[[projects]]\nid = "${id}"\npool = "${pool}"\ntier = "${tier}"\nkeys = [${listed.join(", ")}]\n` +
    `limits = [{ requests_per_minute = ${rpm}, requests_per_day = 5000, input_tokens_per_minute = 250000 }]\n`
  );
}

/** An identity of the configuration, known by this token. */
export function identity(name, role, token) {
  const digest = createHash("sha256").update(token).digest("hex");
  return `[[identities]]\nname = "${name}"\nroles = ["${role}"]\ntoken_sha256 = ["${digest}"]\n`;
}

/** A broker with its embedded ledger. */
export class Broker {
  #process;
  #folder = mkdtempSync(join(tmpdir(), "keybroker-page-"));
  #token;

  static async start(config, token) {
    const broker = new Broker();
    broker.#token = token;
    writeFileSync(join(broker.#folder, "keybroker.toml"), config);
    broker.grpc = `127.0.0.1:${await freePort()}`;
    broker.http = `127.0.0.1:${await freePort()}`;
    broker.url = `http://${broker.http}/`;
    await broker.begin();
    broker.client = new KeyBroker(broker.grpc, credentials.createInsecure());
    return broker;
  }

  /** Starts it, at its addresses. */
  async begin() {
    const folder = this.#folder;
    const args = ["serve", "--grpc-addr", this.grpc, "--http-addr", this.http, "--log-format", "json"];
    const child = spawn(
      join(BIN, "keybroker"),
      [...args, "--config", join(folder, "keybroker.toml"), "--data-dir", join(folder, "data")],
      {
        env: { PATH: process.env.PATH, HOME: process.env.HOME, KEYBROKER_MASTER_KEY: "07".repeat(32) },
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
    this.#process = child;
    process.once("exit", () => child.kill("SIGKILL"));
    let log = "";
    await new Promise((resolve, reject) => {
      let timer = null;
      const fail = (why) => {
        clearTimeout(timer);
        reject(new Error(`the broker does not serve: ${why}\n${log}`));
      };
      timer = setTimeout(fail, PATIENCE, "it takes too long");
      child.once("error", (error) => fail(error.message));
      child.once("exit", () => fail("it ended"));
      createInterface({ input: child.stderr }).on("line", (line) => {
        log += `${line}\n`;
        if (line.includes('"message":"serving"')) {
          clearTimeout(timer);
          resolve();
        }
      });
    });
  }

  /** Ends it at once; `begin` starts it again. */
  async stop() {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill("SIGKILL");
    await ended;
  }

  async end() {
    this.client.close();
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #call(name, request) {
    const metadata = new Metadata();
    if (this.#token !== undefined) metadata.set("authorization", `Bearer ${this.#token}`);
    return new Promise((resolve, reject) => {
      this.client[name](request, metadata, (error, answer) => (error === null ? resolve(answer) : reject(error)));
    });
  }

  /** A lease. */
  async lease(request = {}) {
    const answer = await this.#call("Acquire", { model: "gemini-2.5-flash", inputTokens: 1000, ...request });
    assert.ok(answer.lease?.leaseId, JSON.stringify(answer));
    return answer.lease;
  }

  /** What came of a lease. */
  report(lease, outcome) {
    return this.#call("Report", { reports: [{ leaseId: lease.leaseId, ...outcome }] });
  }

  /** A lease that Gemini answered well. */
  async use(request = {}) {
    const lease = await this.lease(request);
    await this.report(lease, { success: { usage: { inputTokens: 900, outputTokens: 350, totalTokens: 1250 } } });
    return lease;
  }

  /** A lease that Gemini refused: the minute's quota is spent, for so many seconds. */
  async refused(request = {}, seconds = 40) {
    const lease = await this.lease(request);
    await this.report(lease, { httpError: { status: 429, body: minuteQuota(lease.quotaModel, seconds) } });
    return lease;
  }

  /** The beginning of a stream. */
  async beginning(path) {
    const answer = await fetch(new URL(path, this.url));
    const reader = answer.body.getReader();
    const { value } = await reader.read();
    await reader.cancel();
    return Buffer.from(value).toString();
  }

  /** What the broker says by REST. */
  async get(path) {
    const headers = this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` };
    const answer = await fetch(new URL(path, this.url), { headers });
    return answer.json();
  }
}

function minuteQuota(model, seconds) {
  const violation = {
    quotaMetric: "generativelanguage.googleapis.com/generate_content_free_tier_requests",
    quotaId: "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
    quotaDimensions: { location: "global", model },
    quotaValue: "60",
  };
  const details = [
    { "@type": "type.googleapis.com/google.rpc.QuotaFailure", violations: [violation] },
    { "@type": "type.googleapis.com/google.rpc.RetryInfo", retryDelay: `${seconds}s` },
  ];
  return Buffer.from(
    JSON.stringify({
      error: { code: 429, message: "You exceeded your current quota.", status: "RESOURCE_EXHAUSTED", details },
    }),
  );
}

/** The page's files on disk take the place of the broker's, while somebody works on them. */
const FOLDER = process.env.KEYBROKER_PAGE;

async function fromFolder(route) {
  const name = new URL(route.request().url()).pathname.slice(1).replace("page/", "") || "index.html";
  await route.fulfill({ response: await route.fetch(), body: readFileSync(join(FOLDER, name)) });
}

let browser;

/** The browser of this file's tests, without a sandbox where it runs as root. */
export async function openBrowser() {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  return browser;
}

export async function closeBrowser() {
  await browser.close();
}

/**
 * A window on a broker's page, and what it must never do: ask anything of another host, break its own policy, fail in a
 * script, or get the text of a key.
 */
export class Window {
  faults = [];

  static async open(broker, { path = "", ...options } = {}) {
    const window = new Window();
    window.broker = broker;
    window.context = await browser.newContext({
      viewport: { width: 1280, height: 900 },
      reducedMotion: "reduce",
      ...options,
    });
    if (FOLDER !== undefined) await window.context.route(/\/(page\/[^/]+)?(#.*)?$/, (route) => fromFolder(route));
    const page = await window.context.newPage();
    window.page = page;
    page.setDefaultTimeout(10_000);
    page.on("request", (request) => {
      if (new URL(request.url()).host !== broker.http) window.faults.push(`it asks ${request.url()}`);
    });
    page.on("response", (response) => {
      const isStream = /:watch$|\/events$/.test(new URL(response.url()).pathname);
      if (isStream || response.status() === 304) return;
      const reading = response.text().then(
        (text) => text.includes(CANARY) && window.faults.push(`${response.url()} holds a key`),
        () => {},
      );
      window.reading.push(reading);
    });
    page.on("pageerror", (error) => window.faults.push(`a script fails: ${error.message}`));
    page.on("console", (message) => {
      const text = message.text();
      // A browser itself tells of answers that are errors; those are what some tests are about.
      if (message.type() === "error" && !text.startsWith("Failed to load resource")) window.faults.push(text);
    });
    await page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        console.error(`the policy forbids ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
      });
    });
    await page.goto(broker.url + path);
    return window;
  }

  reading = [];

  /** Closes it, if it never did what it must not. */
  async close() {
    await Promise.all(this.reading);
    const html = await this.page.content();
    await this.context.close();
    assert.deepEqual(this.faults, []);
    assert.ok(!html.includes(CANARY), "the document holds a key");
  }
}

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Nothing on the page is wrong by the rules of axe. */
export async function axe(page, where) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const told = violations.map(({ id, nodes }) => [id, ...nodes.map((node) => `${node.target} ${node.failureSummary}`)]);
  assert.deepEqual(told, [], where);
}

/** Waits until something holds, and tells how it was if it never does. */
export async function until(look, isMet, words = "") {
  let seen;
  const end = Date.now() + 10_000;
  do {
    seen = await look();
    if (isMet(seen)) return seen;
    await new Promise((resolve) => setTimeout(resolve, 40));
  } while (Date.now() < end);
  assert.fail(`${words}: ${JSON.stringify(seen)}`);
}
