/** Plays every scenario of `client-sdk/contract` through this SDK. */

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { ApiError, type GoogleGenAI } from "@google/genai";
import { Broker, KeybrokerError, type Advice, type Lease, type TransportKind } from "keybroker";
import { createGenAI } from "keybroker/genai";

import { ROOT, Scene } from "./stage.js";

const SCENARIOS = join(ROOT, "client-sdk", "contract", "scenarios");

type Fields = Readonly<Record<string, unknown>>;

interface Scenario {
  readonly name: string;
  readonly about: string;
  readonly client?: Client;
  readonly steps: readonly Fields[];
}

/** Options of a client. */
interface Client {
  readonly deadline?: number;
  readonly call_timeout?: number;
  readonly attempts?: number;
  readonly token?: string;
  readonly tls?: { readonly ca_file: string; readonly cert_file?: string; readonly key_file?: string };
}

interface Range {
  readonly min?: number;
  readonly max?: number;
}

/** What a step came to, in the words of the contract. */
type Result = Record<string, unknown>;

/** The error of a caller's own. */
class OwnError extends Error {}

/** The actions, and what may be expected of each. */
const EXPECTATIONS: Readonly<Record<string, readonly string[]>> = {
  acquire: ["granted", "error", "retry_after", "text"],
  begin_send: ["key", "error"],
  report: ["action", "settled", "signal", "retry_after", "once", "error"],
  renew: ["expires_in", "error"],
  raise: ["raised"],
  abandon: [],
  generate: ["answer", "error", "status", "events"],
  flush: [],
  sleep: [],
  client: [],
  stage: ["in_flight", "granted", "settled", "waiting", "calls", "refused", "keys_in_url"],
};
const SETTINGS = ["deadline", "call_timeout", "attempts", "token", "tls"];
const ACQUIRE = ["model", "pool", "wait", "ttl", "permits", "input_tokens", "consumer"];

class Runner {
  readonly #leases = new Map<string, Lease>();
  private broker: Broker;
  private ai: GoogleGenAI;

  constructor(
    private readonly scene: Scene,
    client: Client,
  ) {
    [this.broker, this.ai] = connect(scene, client);
  }

  close(): Promise<void> {
    return this.broker.close();
  }

  async play(step: Fields): Promise<void> {
    const action = Object.keys(EXPECTATIONS).find((name) => name in step);
    assert.ok(action !== undefined, `an unknown action: ${JSON.stringify(step)}`);
    known(step, [action, "expect", "as", "lease", ...(action === "stage" ? ["number", "rules", "after"] : [])]);
    const expected = fields(step["expect"] ?? {});
    known(expected, EXPECTATIONS[action] ?? []);
    const result = await this.#take(action, step);
    for (const [name, value] of Object.entries(expected)) {
      assert.ok(isMet(name, value, result[name]), `${name} of ${JSON.stringify(step)}: ${JSON.stringify(result)}`);
    }
    // What was not expected to fail must not.
    assert.ok(result["error"] === undefined || "error" in expected || action === "generate", JSON.stringify(result));
  }

  async #take(action: string, step: Fields): Promise<Result> {
    switch (action) {
      case "stage":
        return this.scene.take(step);
      case "acquire":
        return this.#acquire(step);
      case "begin_send":
        return this.#caught(() => ({ key: this.#lease(step).beginSend() !== "" }));
      case "report":
        return this.#caught(async () => told(await this.#report(this.#lease(step), fields(step["report"]))));
      case "renew":
        return this.#caught(async () => ({
          expires_in: await this.#lease(step).renew(Number(fields(step["renew"])["ttl"])),
        }));
      case "raise":
        return this.#raise(fields(step["raise"]));
      case "abandon":
        return this.#abandon(step);
      case "generate":
        return this.#generate(fields(step["generate"]));
      case "client":
        await this.broker.close();
        [this.broker, this.ai] = connect(this.scene, fields(step["client"]));
        return {};
      case "flush":
        await this.broker.flush();
        return {};
      default:
        await sleep(Number(step["sleep"]));
        return {};
    }
  }

  #lease(step: Fields): Lease {
    const lease = this.#leases.get(nameIn(step, "lease"));
    assert.ok(lease !== undefined, "there is such a lease");
    return lease;
  }

  async #acquire(step: Fields): Promise<Result> {
    return this.#caught(async () => {
      this.#leases.set(nameIn(step, "as"), await this.broker.acquire(toOptions(fields(step["acquire"]))));
      return { granted: true };
    });
  }

  #report(lease: Lease, outcome: Fields): Promise<Advice> {
    known(outcome, ["success", "http_error", "transport_error", "not_sent"]);
    const [kind, given] = Object.entries(outcome)[0] ?? [];
    const of = fields(given);
    switch (kind) {
      case "success": {
        known(of, ["input_tokens", "output_tokens", "total_tokens", "thoughts_tokens", "cached_tokens"]);
        const count = (name: string) => of[name] as number | undefined;
        return lease.success({
          inputTokens: count("input_tokens"),
          outputTokens: count("output_tokens"),
          totalTokens: count("total_tokens"),
          thoughtsTokens: count("thoughts_tokens"),
          cachedTokens: count("cached_tokens"),
        });
      }
      case "http_error":
        known(of, ["status", "body", "retry_after"]);
        return lease.httpError(Number(of["status"]), String(of["body"]), of["retry_after"] as number | undefined);
      case "transport_error":
        known(of, ["kind"]);
        return lease.transportError(of["kind"] as TransportKind);
      default:
        return lease.notSent();
    }
  }

  async #raise(given: Fields): Promise<Result> {
    const { sent, ...acquire } = given;
    try {
      await using lease = await this.broker.acquire(toOptions(acquire));
      if (sent === true) {
        lease.beginSend();
      }
      throw new OwnError("the caller's own");
    } catch (error) {
      return { raised: error instanceof OwnError };
    }
  }

  /** Lets go of the lease in hand: the only reference to it goes, and the garbage is collected. */
  async #abandon(step: Fields): Promise<Result> {
    const given = fields(step["abandon"]);
    known(given, ["sent"]);
    if (given["sent"] === true) {
      this.#lease(step).beginSend();
    }
    this.#leases.delete(nameIn(step, "lease"));
    const { gc } = globalThis;
    assert.ok(gc !== undefined, "run with --expose-gc");
    const before = this.broker.leasesOut;
    for (let round = 0; round < 50 && this.broker.leasesOut === before; round++) {
      await sleep(10);
      gc();
    }
    return {};
  }

  async #generate(given: Fields): Promise<Result> {
    known(given, ["model", "stream", "stop_after", "cancel_after"]);
    const abort = new AbortController();
    const cancelAfter = given["cancel_after"] as number | undefined;
    if (cancelAfter !== undefined) {
      setTimeout(() => {
        abort.abort();
      }, cancelAfter);
    }
    const asked = { model: String(given["model"]), contents: "Why is the sky blue?", config: { abortSignal: abort.signal } };
    let events = 0;
    let text = "";
    const result = await this.#caught(async () => {
      if (given["stream"] !== true) {
        const answer = await this.ai.models.generateContent(asked);
        text = answer.text ?? "";
        return {};
      }
      for await (const event of await this.ai.models.generateContentStream(asked)) {
        events++;
        text += event.text ?? "";
        if (events === given["stop_after"]) {
          break;
        }
      }
      return {};
    });
    return { ...result, events, ...(result["error"] === undefined ? { answer: text !== "" } : {}) };
  }

  async #caught(act: () => Promise<Result> | Result): Promise<Result> {
    try {
      return await act();
    } catch (error) {
      if (error instanceof KeybrokerError) {
        return { error: error.kind, retry_after: error.retryAfter, text: error.message };
      }
      if (error instanceof ApiError) {
        return { error: "upstream", status: error.status, text: error.message };
      }
      if (error instanceof Error && error.name === "AbortError") {
        return { error: "cancelled" };
      }
      throw error;
    }
  }
}

function toOptions(given: Fields): Parameters<Broker["acquire"]>[0] {
  known(given, ACQUIRE);
  const { input_tokens: inputTokens, ...rest } = given;
  return { ...rest, ...(inputTokens === undefined ? {} : { inputTokens: Number(inputTokens) }) } as Parameters<
    Broker["acquire"]
  >[0];
}

function told({ action, settled, signal, retryAfter, once }: Advice): Result {
  return { action, settled, signal, retry_after: retryAfter, once };
}

function isMet(name: string, expected: unknown, got: unknown): boolean {
  if (name === "text") {
    return String(got).includes(String(expected));
  }
  if (typeof expected === "object" && expected !== null) {
    known(fields(expected), ["min", "max"]);
    const { min = -Infinity, max = Infinity } = expected as Range;
    return typeof got === "number" && got >= min && got <= max;
  }
  return got === expected;
}

function nameIn(step: Fields, field: string): string {
  const name = step[field] ?? "lease";
  assert.ok(typeof name === "string");
  return name;
}

function fields(value: unknown): Fields {
  assert.ok(typeof value === "object" && value !== null, `an object, not ${JSON.stringify(value)}`);
  return value as Fields;
}

/** What a runner does not know is a failure, never skipped. */
function known(given: Fields, names: readonly string[]): void {
  const strange = Object.keys(given).filter((name) => !names.includes(name));
  assert.deepEqual(strange, [], `unknown words in ${JSON.stringify(given)}`);
}

/** A client with these options. */
function connect(scene: Scene, client: Client): [Broker, GoogleGenAI] {
  known({ ...client }, SETTINGS);
  const { call_timeout: callTimeout, deadline, attempts, token, tls } = client;
  const path = (name: string) => join(scene.certificates, name);
  known({ ...tls }, ["ca_file", "cert_file", "key_file"]);
  const broker = new Broker(scene.brokers, {
    reportPatience: 15_000,
    ...(callTimeout === undefined ? {} : { callTimeout }),
    ...(token === undefined ? {} : { token }),
    ...(tls === undefined
      ? {}
      : {
          tls: {
            ca: path(tls.ca_file),
            ...(tls.cert_file === undefined ? {} : { cert: path(tls.cert_file) }),
            ...(tls.key_file === undefined ? {} : { key: path(tls.key_file) }),
          },
        }),
  });
  return [broker, createGenAI(broker, { baseUrl: scene.gemini, deadline, attempts })];
}

async function play(file: string): Promise<void> {
  const scenario = JSON.parse(readFileSync(file, "utf8")) as Scenario;
  const scene = await Scene.open(file);
  try {
    const runner = new Runner(scene, scenario.client ?? {});
    for (const step of scenario.steps) {
      await runner.play(step);
    }
    await runner.close();
  } finally {
    await scene.end();
  }
}

describe("the contract", { concurrency: 6 }, () => {
  const files = readdirSync(SCENARIOS).filter((name) => name.endsWith(".json"));
  assert.ok(files.length > 0);
  for (const file of files) {
    it(file, { timeout: 60_000 }, () => play(join(SCENARIOS, file)));
  }
});
