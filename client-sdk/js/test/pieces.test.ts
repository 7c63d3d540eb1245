/** The pieces that need no network. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";

import { Metadata, status as Code, type ServiceError } from "@grpc/grpc-js";

import { readAddresses } from "../dist/address.js";
import { toAdvice } from "../dist/advice.js";
import { Backoff, spread } from "../dist/backoff.js";
import { sleep, within } from "../dist/clock.js";
import {
  InvalidArgumentError,
  KeybrokerError,
  NoUsableKeyError,
  NotPermittedError,
  OtherError,
  RefusedError,
  UnavailableError,
} from "../dist/errors.js";
import { Affinity } from "../dist/gemini/affinity.js";
import { estimateInputTokens } from "../dist/gemini/estimate.js";
import { isError, isFinished, parseJson, retryAfterOf, statusOf, usageOf } from "../dist/gemini/reading.js";
import { readRequest } from "../dist/gemini/request.js";
import { SseDecoder } from "../dist/gemini/sse.js";
import { isGemini, readTarget } from "../dist/gemini/target.js";
import { describe as describeError, kindOf } from "../dist/gemini/transport.js";
import { ErrorInfo, QuotaFailure, RetryInfo, Status } from "../dist/generated/google/rpc/details.js";
import { SettleState } from "../dist/generated/keybroker/v1/keybroker.js";
import { toReport } from "../dist/outcome.js";
import { toRequest } from "../dist/options.js";
import { redactBytes, redactText } from "../dist/redact.js";
import { readStatus } from "../dist/status.js";
import { fromDuration, toDuration } from "../dist/wire.js";

import { ROOT } from "./stage.js";

describe("addresses", () => {
  it("are host and port, one or several", () => {
    const texts = (given: string | string[]) => readAddresses(given).map(({ text }) => text);
    assert.deepEqual(texts("127.0.0.1:50051"), ["127.0.0.1:50051"]);
    assert.deepEqual(texts("a:1, b:2"), ["a:1", "b:2"]);
    assert.deepEqual(texts(["http://a:1/", "[::1]:2"]), ["a:1", "[::1]:2"]);
    assert.deepEqual(
      readAddresses("127.9.0.1:1,localhost:1,[::1]:1,10.0.0.1:1").map(({ isLoopback }) => isLoopback),
      [true, true, true, false],
    );
  });

  it("say what is wrong with them", () => {
    for (const [given, word] of [
      ["https://a:1", "TLS"],
      ["redis://a:1", "scheme"],
      ["localhost", "port"],
      ["a:0", "port"],
      ["a:70000", "port"],
      ["", "host"],
      ["a:1,", "host"],
      ["two words:1", "host"],
      ["a:1/path", "host"],
    ] as const) {
      assert.throws(
        () => readAddresses(given),
        (error: unknown) => error instanceof InvalidArgumentError && error.message.includes(word),
        given,
      );
    }
    assert.throws(() => readAddresses([]), InvalidArgumentError);
  });
});

describe("the wire", () => {
  it("keeps times to the nanosecond", () => {
    for (const ms of [0, 1, 999.5, 1000, 61_500.25]) {
      assert.equal(fromDuration(toDuration("ttl", ms)), ms);
    }
    assert.throws(() => toDuration("ttl", NaN), InvalidArgumentError);
  });

  it("carries every option of an acquire", () => {
    const request = toRequest({
      model: "m",
      pool: "p",
      consumer: "c",
      wait: 1_500,
      ttl: 2_000,
      permits: 3,
      inputTokens: 4.2,
      outputTokens: 5,
      project: "x",
      tier: "paid",
      excludeKeys: ["k"],
      excludeProjects: ["y"],
      keyLabels: { a: "b" },
      labels: { c: "d" },
    });
    assert.deepEqual(request, {
      pool: "p",
      model: "m",
      inputTokens: 5,
      outputTokens: 5,
      consumer: "c",
      ttl: { seconds: 2, nanos: 0 },
      wait: { seconds: 1, nanos: 500_000_000 },
      permits: 3,
      constraints: { project: "x", tier: 2, excludeKeyIds: ["k"], excludeProjects: ["y"], labels: { a: "b" } },
      labels: { c: "d" },
      settle: undefined,
    });
    assert.throws(() => toRequest({ model: "m", inputTokens: NaN }), /input_tokens/);
    assert.throws(() => toRequest({ model: "m", tier: "gold" as "paid" }), /"free" or "paid"/);
  });

  it("cuts a long body and leaves out what is no count", () => {
    const report = toReport("l", { kind: "http_error", status: 500, body: "x".repeat(70_000) }, 5);
    assert.ok(report.outcome?.$case === "httpError" && report.outcome.value.body.length === 65_536);
    const success = toReport("l", { kind: "success", usage: { inputTokens: -1, totalTokens: 1.5, outputTokens: 2 } }, 5);
    assert.ok(success.outcome?.$case === "success");
    const { inputTokens, totalTokens, outputTokens } = success.outcome.value.usage ?? {};
    assert.deepEqual([inputTokens, totalTokens, outputTokens], [undefined, undefined, 2]);
  });

  it("is generated from the contract as it is", () => {
    const ours = readFileSync(join(ROOT, "client-sdk", "js", "proto", "keybroker", "v1", "keybroker.proto"), "utf8");
    const contract = readFileSync(join(ROOT, "proto", "keybroker", "v1", "keybroker.proto"), "utf8");
    assert.equal(ours, contract, "run scripts/generate");
  });
});

describe("an advice", () => {
  it("with an unknown action is no retry", () => {
    const advice = { action: 99, retryAfter: undefined, signal: 98, message: "", once: false };
    const read = toAdvice({ leaseId: "l", state: SettleState.SETTLED, advice });
    assert.deepEqual([read.action, read.signal, read.settled], ["DO_NOT_RETRY", "UNKNOWN_98", "SETTLED"]);
    assert.equal(toAdvice({ leaseId: "l", state: SettleState.UNKNOWN_LEASE, advice: undefined }).action, "DO_NOT_RETRY");
  });
});

describe("a status", () => {
  function of(code: Code, words: string, details: [string, Uint8Array][] = []): KeybrokerError {
    const metadata = new Metadata();
    const packed = details.map(([type, value]) => ({ typeUrl: `type.googleapis.com/google.rpc.${type}`, value: Buffer.from(value) }));
    metadata.set("grpc-status-details-bin", Buffer.from(Status.encode({ code, message: words, details: packed }).finish()));
    const error: ServiceError = Object.assign(new Error(words), { code, details: words, metadata });
    return readStatus(error, "host:1", 1_000);
  }
  const reason = (name: string, domain = "keybroker.v1"): [string, Uint8Array] => [
    "ErrorInfo",
    ErrorInfo.encode({ reason: name, domain, metadata: {} }).finish(),
  ];

  it("of a refusal carries its exact time and what is spent", () => {
    const error = of(Code.RESOURCE_EXHAUSTED, "spent", [
      reason("QUOTA_EXHAUSTED"),
      ["RetryInfo", RetryInfo.encode({ retryDelay: { seconds: 1, nanos: 500_000_000 } }).finish()],
      ["QuotaFailure", QuotaFailure.encode({ violations: [{ subject: "project:alpha", description: "5 of 5" }] }).finish()],
    ]);
    assert.ok(error instanceof RefusedError && error.isRetryable);
    assert.equal(error.retryAfter, 1_500);
    assert.match(error.message, /1\.5 s.*project:alpha: 5 of 5/);
  });

  it("is read by its reason, and by its code where there is none of the contract", () => {
    assert.ok(of(Code.FAILED_PRECONDITION, "x", [reason("NO_USABLE_KEY")]) instanceof NoUsableKeyError);
    assert.ok(of(Code.ABORTED, "x", [reason("NO_USABLE_KEY", "elsewhere.example")]) instanceof OtherError);
    const kinds = {
      REQUEST_EXCEEDS_LIMIT: "never_possible",
      INVALID_FIELD: "invalid_argument",
      UNKNOWN_POOL: "unknown_pool",
      UNKNOWN_LEASE_ID: "unknown_lease",
      LEASE_ENDED: "lease_ended",
      NOT_AUTHENTICATED: "unauthenticated",
      NOT_PERMITTED: "not_permitted",
      COOLING_DOWN: "refused",
      LEDGER_UNAVAILABLE: "unavailable",
      SHUTTING_DOWN: "unavailable",
      OVERLOADED: "unavailable",
    };
    for (const [name, kind] of Object.entries(kinds)) {
      assert.equal(of(Code.UNAVAILABLE, "x", [reason(name)]).kind, kind);
    }
    assert.equal(of(Code.UNAUTHENTICATED, "x").kind, "unauthenticated");
    const denied = of(Code.PERMISSION_DENIED, "identity nightly may not", [reason("NOT_PERMITTED")]);
    assert.ok(denied instanceof NotPermittedError && !denied.isRetryable);
    assert.match(denied.message, /identity nightly may not/);
    assert.equal(of(Code.PERMISSION_DENIED, "x").kind, "not_permitted");
    assert.equal(of(Code.DEADLINE_EXCEEDED, "x").kind, "deadline_exceeded");
    assert.equal(of(Code.RESOURCE_EXHAUSTED, "x").kind, "unavailable");
  });

  it("says whether an answer may be lost", () => {
    const lost = (code: Code, words: string) => {
      const error = of(code, words);
      return error instanceof UnavailableError ? error.answerLost : undefined;
    };
    assert.equal(lost(Code.UNAVAILABLE, "No connection established. Last error: connect ECONNREFUSED"), false);
    assert.equal(lost(Code.UNAVAILABLE, "Connection dropped"), true);
    assert.equal(lost(Code.INTERNAL, "Received RST_STREAM with code 2"), true);
    assert.equal(lost(Code.INTERNAL, "a bug"), undefined);
  });

  it("with details that cannot be read is read by its code", () => {
    const metadata = new Metadata();
    metadata.set("grpc-status-details-bin", Buffer.from([255, 255, 255]));
    const error: ServiceError = Object.assign(new Error("x"), { code: Code.UNAVAILABLE, details: "x", metadata });
    assert.equal(readStatus(error, "host:1", 1).kind, "unavailable");
  });
});

describe("an estimate", () => {
  it("counts half of prose and all of numbers", () => {
    assert.deepEqual(["four word text here", "1234567890", "日本語", "a\nb\n", "", "😀"].map(estimateInputTokens), [10, 10, 5, 3, 0, 2]);
  });

  it("counts media by size, with an allowance at least", () => {
    const of = (data: string) => estimateInputTokens({ inlineData: { mimeType: "image/png", data } });
    assert.deepEqual([of("AAAA"), of("A".repeat(400_000))], [2_240, 10_000]);
    assert.equal(estimateInputTokens({ fileData: { fileUri: "https://files.example/1" } }), 2_240);
  });

  it("takes in everything of the body", () => {
    const contents = [{ parts: [{ text: "hello" }] }];
    assert.ok(estimateInputTokens({ contents, systemInstruction: { parts: [{ text: "be brief" }] } }) > estimateInputTokens({ contents }));
    assert.equal(estimateInputTokens([true, null, 12]), 4);
  });
});

describe("a target", () => {
  it("is named in the path or the body", () => {
    const of = (path: string, body: unknown = {}) => {
      const { model, permits, generatesStream } = readTarget(path, body);
      return [model, permits, generatesStream];
    };
    assert.deepEqual(of("/v1beta/models/gemini-x:streamGenerateContent"), ["gemini-x", 1, true]);
    assert.deepEqual(of("/v1/models/e:batchEmbedContents", { requests: [{}, {}, {}] }), ["e", 3, false]);
    assert.deepEqual(of("/v1beta/interactions", { model: "models/m" }), ["m", 1, false]);
    assert.deepEqual(of("/v1beta/tunedModels/mine:generateContent"), ["tunedModels/mine", 1, false]);
    for (const path of ["/v1beta/models", "/upload/v1beta/files", "/v1beta/models/"]) {
      assert.deepEqual(of(path), [undefined, 1, false]);
    }
  });

  it("is Gemini's where a version is in the path", () => {
    for (const path of ["/v1beta/models/m:generateContent", "/v1/files", "/upload/v1beta/files", "/proxy/v1alpha/x", "/v1main/x"]) {
      assert.ok(isGemini(path), path);
    }
    for (const path of ["/", "/healthz", "/video/x", "/v1"]) {
      assert.ok(!isGemini(path), path);
    }
  });
});

describe("an answer", () => {
  it("is an error by its object at the top", () => {
    for (const [text, isOne, status] of [
      ['{"error":{"code":429}}', true, 429],
      ['[{"error":{"code":503}}]', true, 503],
      ['{"error":{"code":7}}', true, 200],
      ['{"error":"text"}', false, 200],
      ['{"a":{"error":{}}}', false, 200],
      ["nonsense", false, 200],
      ["null", false, 200],
    ] as const) {
      const value = parseJson(text);
      assert.deepEqual([isError(value), statusOf(value, 200)], [isOne, status], text);
    }
  });

  it("names what was used, and whether it is complete", () => {
    assert.deepEqual(usageOf({ usageMetadata: { promptTokenCount: 7, totalTokenCount: 9 } }), {
      inputTokens: 7,
      outputTokens: undefined,
      totalTokens: 9,
      thoughtsTokens: undefined,
      cachedTokens: undefined,
    });
    assert.equal(usageOf([]), undefined);
    assert.ok(isFinished({ candidates: [{}, { finishReason: "STOP" }] }));
    assert.ok(isFinished({ promptFeedback: { blockReason: "SAFETY" } }));
    assert.ok(!isFinished({ candidates: [{ content: {} }] }));
  });

  it("asks to wait for so many seconds", () => {
    const of = (text: string) => retryAfterOf(new Headers({ "retry-after": text }));
    assert.deepEqual([of("12"), of("Wed, 21 Oct 2026 07:28:00 GMT"), retryAfterOf(new Headers())], [12_000, undefined, undefined]);
  });
});

describe("events", () => {
  function decode(text: string, size: number) {
    const decoder = new SseDecoder();
    const bytes = Buffer.from(text);
    const events: string[] = [];
    for (let from = 0; from < bytes.length; from += size) {
      events.push(...decoder.push(bytes.subarray(from, from + size)));
    }
    return { events, ...decoder.finish() };
  }

  it("are the same however they are cut", () => {
    const text = 'data: {"a":1}\r\n\r\n: ping\r\nevent: x\r\ndata:{\r\ndata: }\r\n\r\ndata: 3 日\n\n';
    for (let size = 1; size < text.length; size++) {
      assert.deepEqual(decode(text, size), { events: ['{"a":1}', "{\n}", "3 日"], event: undefined, stray: "" });
    }
  });

  it("may be followed by a bare error, or end in the middle", () => {
    const { events, stray } = decode('data: 1\r\n\r\n{"error": {\r\n  "code": 503\r\n}}', 5);
    assert.deepEqual([events, stray], [["1"], '{"error": {\n  "code": 503\n}}\n']);
    assert.deepEqual(decode('data: {"text":"ha', 4).event, '{"text":"ha');
  });

  it("of megabytes cost time in proportion", () => {
    const began = performance.now();
    const { events } = decode(`data: ${"x".repeat(4 * 1024 * 1024)}\n\n`, 1024);
    assert.equal(events[0]?.length, 4 * 1024 * 1024);
    assert.ok(performance.now() - began < 2_000);
  });
});

describe("affinity", () => {
  const url = (text: string) => new URL(text);

  it("uses a file with the project that made it", () => {
    const affinity = new Affinity();
    affinity.learn("a", new Headers(), { file: { name: "files/abc", uri: "https://host/v1beta/files/abc" } });
    const asks = { contents: [{ parts: [{ fileData: { fileUri: "https://host/v1beta/files/abc" } }] }] };
    const generate = url("https://host/v1beta/models/m:generateContent");
    assert.equal(affinity.projectOf(generate, asks), "a");
    assert.equal(affinity.projectOf(url("https://host/v1beta/files/abc"), undefined), "a");
    assert.equal(affinity.projectOf(url("https://host/v1beta/files/other"), undefined), undefined);
    assert.equal(affinity.projectOf(generate, { contents: ["files/" + "x".repeat(600)] }), undefined);
  });

  it("goes on with an upload where it began", () => {
    const affinity = new Affinity();
    const session = "https://host/upload/v1beta/files?upload_id=xyz&upload_protocol=resumable";
    affinity.learn("b", new Headers({ "x-goog-upload-url": session }), undefined);
    assert.equal(affinity.projectOf(url(session), undefined), "b");
  });

  it("remembers what was used last", () => {
    const affinity = new Affinity();
    for (let number = 0; number < 10_005; number++) {
      affinity.learn("p", new Headers(), { name: `cachedContents/${number}` });
    }
    assert.equal(affinity.projectOf(url("https://host/v1beta/cachedContents/0"), undefined), undefined);
    assert.equal(affinity.projectOf(url("https://host/v1beta/cachedContents/10004"), undefined), "p");
  });
});

describe("a request", () => {
  it("is read from every form that fetch takes, without the credentials it came with", async () => {
    const address = "https://host/v1beta/models/m:generateContent?key=fake-key-1&alt=sse";
    const headers = { "x-goog-api-key": "fake-key-2", authorization: "Bearer fake", "content-type": "application/json" };
    const body = '{"contents":[]}';
    const forms: Parameters<typeof readRequest>[] = [
      [address, { method: "post", headers, body }],
      [new URL(address), { method: "POST", headers, body: Buffer.from(body) }],
      [new Request(address, { method: "POST", headers, body })],
      [address, { method: "POST", headers, body: new Blob([body]) }],
      [address, { method: "POST", headers, body: new Response(body).body, duplex: "half" }],
    ];
    for (const form of forms) {
      const request = await readRequest(...form);
      assert.equal(request.url.href, "https://host/v1beta/models/m:generateContent?alt=sse");
      assert.deepEqual([request.method, request.body?.toString(), request.json], ["POST", body, { contents: [] }]);
      assert.deepEqual([...request.headers.keys()], ["content-type"]);
    }
    const none = await readRequest(new Request("https://host/v1beta/models"));
    assert.deepEqual([none.method, none.body], ["GET", undefined]);
  });
});

describe("the rest", () => {
  it("masks every occurrence of a key", () => {
    const body = Buffer.from("fake-key-1 of api_key:fake-key-1.");
    assert.equal(Buffer.from(redactBytes(body, "fake-key-1")).toString(), "[redacted] of api_key:[redacted].");
    assert.equal(redactText("a fake-key-1", "fake-key-1"), "a [redacted]");
    assert.equal(redactBytes(body, ""), body);
  });

  it("backs off below a ceiling that doubles, and never shortens a named wait", () => {
    const backoff = new Backoff(100, 2_000);
    assert.deepEqual([0, 1, 2, 3, 4, 5, 60].map((retry) => backoff.ceiling(retry)), [100, 200, 400, 800, 1600, 2000, 2000]);
    for (let round = 0; round < 200; round++) {
      assert.ok(backoff.wait(round % 8) <= backoff.ceiling(round % 8));
      const wait = spread(3_000);
      assert.ok(wait >= 3_000 && wait <= 3_300);
    }
  });

  it("tells failures of the network apart", () => {
    const of = (code: string) => new TypeError("fetch failed", { cause: Object.assign(new Error(`it ${code}`), { code }) });
    assert.deepEqual(["ECONNREFUSED", "UND_ERR_HEADERS_TIMEOUT", "ECONNRESET"].map((code) => kindOf(of(code))), ["CONNECT", "TIMEOUT", "RESET"]);
    assert.equal(describeError(of("ECONNRESET")), "fetch failed: it ECONNRESET");
  });

  it("waits, but not after an abort", async () => {
    await assert.rejects(sleep(60_000, AbortSignal.timeout(5)), { name: "TimeoutError" });
    assert.equal(await within(5, new Promise(() => undefined)), undefined);
    assert.equal(await within(60_000, new Promise(() => undefined), AbortSignal.timeout(5)), undefined);
  });
});
