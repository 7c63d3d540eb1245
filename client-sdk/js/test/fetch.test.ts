/** A `fetch` with leased keys, against real brokers and the fake Gemini. */

import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Broker, InvalidArgumentError, RefusedError, TransportError, UnavailableError } from "keybroker";

import { SettleState } from "../dist/generated/keybroker/v1/keybroker.js";

import { Double, granted } from "./double.js";
import { BrokerProcess, Gemini, freePort } from "./stage.js";

const GENERATE = "/v1beta/models/gemini-2.5-flash:generateContent";
const STREAM = "/v1beta/models/gemini-2.5-flash:streamGenerateContent";
const ASKED = { contents: [{ parts: [{ text: "Why is the sky blue?" }] }] };

function post(body: unknown, more: RequestInit = {}): RequestInit {
  return { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), ...more };
}

async function failure(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  return assert.fail("it should have failed");
}

describe("fetch", () => {
  let gemini: Gemini;
  let process_: BrokerProcess;
  let broker: Broker;
  beforeEach(async () => {
    [gemini, process_] = await Promise.all([
      Gemini.start(3),
      BrokerProcess.start({ projects: 3, pool: "limits = [{ requests_per_minute = 1000, in_flight = 100 }]" }),
    ]);
    broker = new Broker(process_.address);
  });
  afterEach(async () => {
    await broker.close();
    await Promise.all([gemini.end(), process_.end()]);
  });

  it("replays the body with another key, as the broker advises", async () => {
    await gemini.faults({ fault: { kind: "error", name: "invalid" }, count: 2 });
    const answer = await broker.fetch({ baseUrl: gemini.url })(`${gemini.url}${GENERATE}?key=fake-old`, post(ASKED));
    assert.equal(answer.status, 200);
    assert.match(await answer.text(), /Why is the sky blue/);
    const { calls, keys_in_url: inUrl } = await gemini.verdict();
    assert.deepEqual([calls, inUrl], [3, 0]);
    const projects = new Set((await gemini.log()).map(({ project }) => project));
    assert.equal(projects.size, 3);
    await process_.sees({ granted: 3, settled: 3 });
  });

  it("gives Google's answer where nothing else is to be done, with the key masked", async () => {
    await gemini.faults({ fault: { kind: "error", name: "suspended" } });
    const answer = await broker.fetch({ baseUrl: gemini.url })(gemini.url + GENERATE, post(ASKED));
    const text = await answer.text();
    assert.equal(answer.status, 403);
    assert.ok(text.includes("[redacted]") && !text.includes("fake-key-"), text);
  });

  it("sends at most so many requests", async () => {
    await gemini.faults({ fault: { kind: "error", name: "invalid" } });
    const answer = await broker.fetch({ baseUrl: gemini.url, attempts: 2 })(gemini.url + GENERATE, post(ASKED));
    assert.deepEqual([answer.status, (await gemini.verdict()).calls], [400, 2]);
  });

  it("leases a permit for each text of a batch, and tokens as they are asked for", async () => {
    const texts = ["a", "b", "c"].map((text) => ({ model: "models/gemini-embedding-001", content: { parts: [{ text }] } }));
    const leased = broker.fetch({ baseUrl: gemini.url });
    const answer = await leased(
      `${gemini.url}/v1beta/models/gemini-embedding-001:batchEmbedContents`,
      post({ requests: texts }),
    );
    assert.equal(((await answer.json()) as { embeddings: unknown[] }).embeddings.length, 3);
    const counted = broker.fetch({ baseUrl: gemini.url, inputTokens: "count", outputTokens: () => 5 });
    assert.equal((await counted(gemini.url + GENERATE, post(ASKED))).status, 200);
    assert.deepEqual(
      (await gemini.log()).map(({ method }) => method),
      ["batchEmbedContents", "countTokens", "generateContent"],
    );
    await process_.sees({ granted: 3, settled: 3 });
  });

  it("passes streams on in both of their forms", async () => {
    const leased = broker.fetch({ baseUrl: gemini.url });
    const events = await (await leased(`${gemini.url}${STREAM}?alt=sse`, post(ASKED))).text();
    assert.ok(events.split("data: ").length > 2, events);
    const array = (await (await leased(gemini.url + STREAM, post(ASKED))).json()) as unknown[];
    assert.ok(array.length > 1);
    await process_.sees({ granted: 2, settled: 2 });
  });

  it("reports a stream that its caller cancels, drops, or does not read", async () => {
    const leased = broker.fetch({ baseUrl: gemini.url, requestTimeout: 1_000 });
    const address = `${gemini.url}${STREAM}?alt=sse`;
    await (await leased(address, post(ASKED))).body?.cancel();
    await process_.sees({ settled: 1 });

    await (async () => {
      const reader = (await leased(address, post(ASKED))).body?.getReader();
      await reader?.read();
    })();
    for (let round = 0; round < 100 && broker.leasesOut > 0; round++) {
      await sleep(5);
      globalThis.gc?.();
    }
    await process_.sees({ settled: 2 });

    const unread = await leased(address, post(ASKED));
    await process_.sees({ settled: 3 });
    assert.ok((await failure(unread.text())) instanceof TransportError, "whoever reads on too late is told");

    const abort = new AbortController();
    const called = await leased(address, post(ASKED, { signal: abort.signal }));
    abort.abort();
    await process_.sees({ settled: 4 });
    assert.equal(((await failure(called.text())) as Error).name, "AbortError");
  });

  it("tells a caller of a cut, and of an answer that does not come", async () => {
    await gemini.faults({ fault: { kind: "half_stream" }, count: 1 });
    const leased = broker.fetch({ baseUrl: gemini.url, attempts: 1 });
    const cut = await leased(`${gemini.url}${STREAM}?alt=sse`, post(ASKED));
    const error = await failure(cut.text());
    assert.ok(error instanceof TransportError && error.transport === "RESET");
    await gemini.faults({ fault: { kind: "reset" }, count: 1 });
    const reset = await failure(leased(gemini.url + GENERATE, post(ASKED)));
    assert.ok(reset instanceof TransportError && reset.transport === "RESET");
    await gemini.faults({ fault: { kind: "hang" }, count: 1 });
    const hasty = broker.fetch({ baseUrl: gemini.url, attempts: 1, requestTimeout: 200 });
    const late = await failure(hasty(gemini.url + GENERATE, post(ASKED)));
    assert.ok(late instanceof TransportError && late.transport === "TIMEOUT", String(late));
    await process_.sees({ granted: 3, settled: 3 });
    const nobody = `http://127.0.0.1:${await freePort()}`;
    const refused = await failure(broker.fetch({ baseUrl: nobody, attempts: 1 })(nobody + GENERATE, post(ASKED)));
    assert.ok(refused instanceof TransportError && refused.transport === "CONNECT");
  });

  it("ends where its caller calls off, with his reason", async () => {
    await gemini.faults({ fault: { kind: "hang" } });
    const abort = new AbortController();
    const reason = new RangeError("a reason of one's own");
    setTimeout(() => {
      abort.abort(reason);
    }, 200);
    const leased = broker.fetch({ baseUrl: gemini.url });
    assert.equal(await failure(leased(gemini.url + GENERATE, post(ASKED, { signal: abort.signal }))), reason);
    await process_.sees({ granted: 1, settled: 1 });
  });

  it("keeps answers only if asked to", async () => {
    const leased = broker.fetch({ baseUrl: gemini.url, cache: { max: 10, ttl: 60_000 } });
    const first = await (await leased(gemini.url + GENERATE, post(ASKED))).text();
    const again = await leased(gemini.url + GENERATE, post(ASKED));
    assert.deepEqual([again.headers.get("x-keybroker-cache"), await again.text()], ["hit", first]);
    await (await leased(gemini.url + GENERATE, post({ contents: [{ parts: [{ text: "another" }] }] }))).text();
    await (await broker.fetch({ baseUrl: gemini.url })(gemini.url + GENERATE, post(ASKED))).text();
    assert.equal((await gemini.verdict()).calls, 3);
  });

  it("leaves other hosts and paths alone, and sends them no key", async () => {
    const leased = broker.fetch({ baseUrl: gemini.url });
    assert.equal((await leased(`${gemini.url}/control/verdict`)).status, 200);
    const elsewhere = leased(`http://127.0.0.1:1${GENERATE}`, { headers: { "x-goog-api-key": "leased-by-keybroker" } });
    assert.ok((await failure(elsewhere)) instanceof InvalidArgumentError);
    await process_.sees({ granted: 0 });
  });
});

describe("fetch where no lease can be had", () => {
  it("waits in the broker, and says so where that is not long enough", async () => {
    const gemini = await Gemini.start(1);
    const process_ = await BrokerProcess.start({ pool: "limits = [{ requests_per_minute = 1 }]" });
    const broker = new Broker(process_.address);
    const leased = broker.fetch({ baseUrl: gemini.url, deadline: 500 });
    assert.equal((await leased(gemini.url + GENERATE, post(ASKED))).status, 200);
    const error = await failure(leased(gemini.url + GENERATE, post(ASKED)));
    assert.ok(error instanceof RefusedError && error.retryAfter > 1_000 && error.quota.length > 0);

    const asked: string[] = [];
    const fallback = broker.fetch({
      baseUrl: gemini.url,
      deadline: 500,
      fallback: (why, { model }) => {
        asked.push(`${why.kind} ${model}`);
        return "fake-key-0000";
      },
    });
    assert.equal((await fallback(gemini.url + GENERATE, post(ASKED))).status, 200);
    assert.deepEqual(asked, ["refused gemini-2.5-flash"]);
    await process_.sees({ granted: 1, settled: 1 });
    await broker.close();
    await Promise.all([gemini.end(), process_.end()]);
  });

  it("survives a broker that is away for a moment, and names one that stays away", async () => {
    const gemini = await Gemini.start(1);
    const process_ = await BrokerProcess.start({ pool: "limits = [{ requests_per_minute = 100 }]" });
    const broker = new Broker(process_.address);
    const leased = broker.fetch({ baseUrl: gemini.url });
    await process_.stop();
    const answer = leased(gemini.url + GENERATE, post(ASKED));
    await sleep(300);
    await process_.begin();
    assert.equal((await answer).status, 200);
    await broker.close();
    await Promise.all([gemini.end(), process_.end()]);

    const gone = new Broker(`127.0.0.1:${await freePort()}`);
    const error = await failure(gone.fetch({ deadline: 300 })(`https://generativelanguage.googleapis.com${GENERATE}`, post(ASKED)));
    assert.ok(error instanceof UnavailableError);
    await gone.close();
  });
});

describe("fetch and its lease", () => {
  let double: Double;
  let server: Server;
  let base: string;
  let play: (request: IncomingMessage, response: ServerResponse) => void;
  before(async () => {
    double = await Double.start();
    server = createServer((request, response) => {
      play(request, response);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    base = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
  });
  after(() => {
    double.end();
    server.closeAllConnections();
    server.close();
  });

  it("sends nothing once it is too late, and gives up after so many such leases", async () => {
    let requests = 0;
    play = (_request, response) => {
      requests++;
      response.end("{}");
    };
    double.acquire = () => granted({ sendWithin: { seconds: 0, nanos: 0 } });
    const broker = new Broker(double.address);
    const error = await failure(broker.fetch({ baseUrl: base, attempts: 3 })(base + GENERATE, post(ASKED)));
    assert.deepEqual([(error as { kind?: string }).kind, requests], ["send_window_passed", 0]);
    await broker.close();
    const outcomes = double.reports.flatMap(({ reports }) => reports.map(({ outcome }) => outcome?.$case));
    assert.deepEqual(outcomes, ["notSent", "notSent", "notSent"]);
    double.acquire = () => granted();
  });

  it("follows a redirect of a download, and takes no key to another host", async () => {
    const keys: (string | undefined)[] = [];
    const other = createServer((request, response) => {
      keys.push(request.headers["x-goog-api-key"] as string | undefined);
      response.setHeader("content-type", "video/mp4");
      response.end("bytes");
    });
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    play = (request, response) => {
      keys.push(request.headers["x-goog-api-key"] as string | undefined);
      response.writeHead(302, { location: `http://127.0.0.1:${(other.address() as { port: number }).port}/file` });
      response.end();
    };
    const broker = new Broker(double.address);
    const answer = await broker.fetch({ baseUrl: base })(`${base}/v1beta/files/x:download?alt=media`);
    assert.equal(await answer.text(), "bytes");
    assert.deepEqual(keys, ["fake-key-0000", undefined]);
    await broker.close();
    other.closeAllConnections();
    other.close();
  });

  it("sends a length, reports what was used, and leaves the key out of a stream", async () => {
    const lengths: (string | undefined)[] = [];
    play = (request, response) => {
      lengths.push(request.headers["content-length"]);
      request.resume();
      response.setHeader("content-type", "text/event-stream");
      response.write(`data: {"text":"fake-key-0000","usageMetadata":{"promptTokenCount":4}}\n\n`);
      response.end('data: {"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":4,"totalTokenCount":9}}\n\n');
    };
    double.reports.length = 0;
    const broker = new Broker(double.address);
    const text = await (await broker.fetch({ baseUrl: base })(`${base}${STREAM}?alt=sse`, post(ASKED))).text();
    assert.ok(text.includes("[redacted]") && !text.includes("fake-key-0000"));
    assert.deepEqual(lengths, [String(JSON.stringify(ASKED).length)]);
    await broker.close();
    const outcome = double.reports[0]?.reports[0]?.outcome;
    assert.ok(outcome?.$case === "success");
    assert.deepEqual([outcome.value.usage?.inputTokens, outcome.value.usage?.totalTokens], [4, 9]);
  });

  it("asks again with the key that failed left out", async () => {
    let calls = 0;
    play = (request, response) => {
      request.resume();
      calls++;
      response.writeHead(calls === 1 ? 429 : 200, { "content-type": "application/json", "retry-after": "7" });
      response.end("{}");
    };
    double.reports.length = 0;
    double.acquires.length = 0;
    double.report = ({ reports }) => ({
      results: reports.map(({ leaseId, outcome }) => ({
        leaseId,
        state: SettleState.SETTLED,
        advice: { action: outcome?.$case === "httpError" ? 2 : 1, retryAfter: undefined, signal: 3, message: "", once: false },
      })),
    });
    const broker = new Broker(double.address);
    const leased = broker.fetch({ baseUrl: base, pool: "p", consumer: "c", excludeKeys: ["key-x"], tier: "paid" });
    assert.equal((await leased(base + GENERATE, post(ASKED))).status, 200);
    const [first, second] = double.acquires.map(({ request }) => request);
    assert.deepEqual([first?.pool, first?.consumer, first?.constraints?.tier], ["p", "c", 2]);
    assert.deepEqual(second?.constraints?.excludeKeyIds, ["key-x", "key-0000"]);
    assert.ok((first?.wait?.seconds ?? 0) > 50 && (first?.inputTokens ?? 0) > 0);
    await broker.close();
    const outcome = double.reports[0]?.reports[0]?.outcome;
    assert.ok(outcome?.$case === "httpError" && outcome.value.retryAfter?.seconds === 7);
  });
});
