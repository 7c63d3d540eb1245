/** The official SDK as it is, with a base URL and a key that is none, through `keybroker proxy`. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { promisify } from "node:util";

import { ApiError, GoogleGenAI } from "@google/genai";
import { ApiError as ApiError2, GoogleGenAI as GoogleGenAI2 } from "genai-2";

import { Program, ROOT, Scene, type Entry, type Verdict } from "./stage.js";

const MODEL = "gemini-2.5-flash";
const PROJECTS = 3;
const PLENTY = { requests_per_minute: 1000, in_flight: 100 };

/** A broker, the fake Gemini, and a proxy before it. */
class Proxied {
  private constructor(
    readonly scene: Scene,
    private readonly proxy: Program,
    private readonly folder: string,
    readonly url: string,
  ) {}

  static async start(limits: object, projects: number, ...options: string[]): Promise<Proxied> {
    const folder = mkdtempSync(join(tmpdir(), "keybroker-js-"));
    const file = join(folder, "scenario.json");
    // Least recently used, so that the next request goes elsewhere, unless something keeps it.
    const pool = { strategy: "least_recently_used", limits: [limits] };
    writeFileSync(file, JSON.stringify({ name: "proxy", about: "", projects, pool, steps: [] }));
    const scene = await Scene.open(file);
    const where = ["--broker", scene.brokers.join(","), "--upstream", scene.gemini, "--listen", "127.0.0.1:0"];
    const proxy = new Program("keybroker", ["proxy", ...where, ...options]);
    const url = await proxy.firstOf(proxy.child.stderr, (line) => /http:\/\/[0-9.:]+/.exec(line)?.[0]);
    return new Proxied(scene, proxy, folder, url);
  }

  /** What a client of either version is made with. */
  client(apiVersion: string) {
    return { apiKey: "any-text", httpOptions: { baseUrl: this.url, apiVersion } };
  }

  async calls(): Promise<Entry[]> {
    return ((await (await fetch(`${this.scene.gemini}/control/log`)).json()) as { entries: Entry[] }).entries;
  }

  /** Everything is reported, nothing was refused, and only leased keys reached Gemini. */
  async checkBooks(): Promise<void> {
    const expect = { in_flight: 0, waiting: 0, refused: 0, keys_in_url: 0 };
    const seen = await this.scene.take({ stage: "see", expect });
    assert.deepEqual({ ...seen, ...expect }, seen);
    assert.ok(Number(seen["granted"]) > 0);
    assert.equal(seen["settled"], seen["granted"]);
    const { keys } = (await (await fetch(`${this.scene.gemini}/control/verdict`)).json()) as Verdict;
    const leased = Array.from({ length: PROJECTS }, (_, number) =>
      createHash("sha256").update(`fake-key-${String(number).padStart(4, "0")}`).digest("hex").slice(0, 12),
    );
    assert.deepEqual(Object.keys(keys).filter((key) => !leased.includes(key)), []);
  }

  async end(): Promise<void> {
    await this.proxy.kill();
    await this.scene.end();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function projectsOf(entries: readonly Entry[]): number {
  return new Set(entries.map((entry) => entry.project)).size;
}

const SDKS = { "in its newest version": GoogleGenAI, "in the version before": GoogleGenAI2 as unknown as typeof GoogleGenAI };

describe("through the proxy, the official SDK", () => {
  for (const [name, SDK] of Object.entries(SDKS)) {
    for (const version of ["v1", "v1beta"]) {
      it(`${name} generates, embeds, interacts and uses files by ${version}`, { timeout: 60_000 }, async () => {
        const proxied = await Proxied.start(PLENTY, PROJECTS);
        try {
          const ai = new SDK(proxied.client(version));
          await usesModels(ai);
          await usesAFile(ai, proxied);
          await interacts(ai, proxied);
          await proxied.checkBooks();
        } finally {
          await proxied.end();
        }
      });
    }
  }

  it("is told of the proxy by its environment", { timeout: 60_000 }, async () => {
    const proxied = await Proxied.start(PLENTY, 1);
    try {
      const program = join(ROOT, "client-sdk", "js", "examples", "migrate", "environment_before.mjs");
      const env = { ...process.env, GOOGLE_GEMINI_BASE_URL: proxied.url, GEMINI_API_KEY: "any-text", GOOGLE_API_KEY: "" };
      const { stdout } = await promisify(execFile)(process.execPath, [program], { env });
      assert.equal(stdout, "echo: Name three rivers.\n");
      await proxied.checkBooks();
    } finally {
      await proxied.end();
    }
  });

  it("shows what the proxy refuses", { timeout: 60_000 }, async () => {
    const proxied = await Proxied.start({ requests_per_minute: 1, in_flight: 10 }, 1, "--deadline", "1");
    try {
      const ask = (SDK: typeof GoogleGenAI) =>
        new SDK(proxied.client("v1")).models.generateContent({ model: MODEL, contents: "hello" });
      assert.equal((await ask(GoogleGenAI)).text, "echo: hello");
      for (const [SDK, Shown] of [[GoogleGenAI, ApiError], [SDKS["in the version before"], ApiError2]] as const) {
        await assert.rejects(ask(SDK), (error: unknown) => {
          assert.ok(error instanceof Shown);
          assert.equal(error.status, 429);
          assert.match(error.message, /keybroker: no key is free.*google\.rpc\.RetryInfo|RetryInfo.*keybroker: no key is free/);
          return true;
        });
      }
      const plain = await fetch(`${proxied.url}/v1/models/${MODEL}:generateContent`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ contents: [{ parts: [{ text: "hello" }] }] }),
      });
      const seconds = Number(plain.headers.get("retry-after"));
      assert.ok(plain.status === 429 && seconds >= 50 && seconds <= 65, `${plain.status}, ${seconds} s`);
      await proxied.checkBooks();
      await proxied.scene.take({ stage: "stop_broker", number: 0 });
      await assert.rejects(ask(GoogleGenAI), (error: unknown) => {
        assert.ok(error instanceof ApiError);
        assert.equal(error.status, 503);
        assert.ok(error.message.includes("keybroker: ") && error.message.includes(proxied.scene.brokers[0] ?? "?"));
        return true;
      });
    } finally {
      await proxied.end();
    }
  });
});

async function usesModels(ai: GoogleGenAI): Promise<void> {
  assert.equal((await ai.models.generateContent({ model: MODEL, contents: "one" })).text, "echo: one");
  const texts: (string | undefined)[] = [];
  for await (const event of await ai.models.generateContentStream({ model: MODEL, contents: "two" })) {
    texts.push(event.text);
  }
  assert.deepEqual(texts, ["echo", ": ", "two"]);
  assert.equal((await ai.models.countTokens({ model: MODEL, contents: "12345678" })).totalTokens, 2);
  const embedded = await ai.models.embedContent({ model: "gemini-embedding-001", contents: ["a", "b"] });
  assert.equal(embedded.embeddings?.length, 2);
}

async function usesAFile(ai: GoogleGenAI, proxied: Proxied): Promise<void> {
  const file = await ai.files.upload({ file: new Blob(["Nile, Amazon"]), config: { mimeType: "text/plain" } });
  assert.ok(file.name !== undefined && file.uri !== undefined && file.mimeType !== undefined);
  const before = (await proxied.calls()).length;
  const parts = [{ text: "What is in it?" }, { fileData: { fileUri: file.uri, mimeType: file.mimeType } }];
  // The fake Gemini answers 403 to a key of another project.
  for (let round = 0; round < 2 * PROJECTS; round++) {
    assert.ok((await ai.models.generateContent({ model: MODEL, contents: [{ role: "user", parts }] })).text);
  }
  assert.equal((await ai.files.get({ name: file.name })).name, file.name);
  await ai.files.delete({ name: file.name });
  assert.equal(projectsOf((await proxied.calls()).slice(before)), 1);
  for (let round = 1; round < PROJECTS; round++) {
    await ai.models.generateContent({ model: MODEL, contents: "no file" });
  }
  assert.equal(projectsOf((await proxied.calls()).slice(before)), PROJECTS, "what names no file goes elsewhere");
}

async function interacts(ai: GoogleGenAI, proxied: Proxied): Promise<void> {
  const before = (await proxied.calls()).length;
  const first = await ai.interactions.create({ model: MODEL, input: "interact" });
  assert.match(JSON.stringify(first), /echo: interact/);
  for (let round = 1; round < PROJECTS; round++) {
    await ai.interactions.create({ model: MODEL, input: "go on", previous_interaction_id: first.id });
  }
  const entries = (await proxied.calls()).slice(before);
  assert.deepEqual([entries.length, projectsOf(entries)], [PROJECTS, 1]);
}
