/** The official SDK of Google's with leased keys, in the newest version and in the one before it. */

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { ApiError, GoogleGenAI } from "@google/genai";
import { GoogleGenAI as GoogleGenAI2 } from "genai-2";
import { Broker, PLACEHOLDER_KEY } from "keybroker";
import { createGenAI } from "keybroker/genai";

import { BrokerProcess, Gemini } from "./stage.js";

const MODEL = "gemini-2.5-flash";

describe("the official SDK", () => {
  let gemini: Gemini;
  let process_: BrokerProcess;
  let broker: Broker;
  let ai: GoogleGenAI;
  before(async () => {
    [gemini, process_] = await Promise.all([
      Gemini.start(3),
      BrokerProcess.start({ projects: 3, pool: "limits = [{ requests_per_minute = 1000, in_flight = 100 }]" }),
    ]);
    broker = new Broker(process_.address);
    ai = createGenAI(broker, { baseUrl: gemini.url });
  });
  after(async () => {
    await broker.close();
    const { granted, settled } = await process_.counters();
    assert.equal(settled, granted, "every lease is reported");
    const { keys_in_url: inUrl, quota_refusals: refused } = await gemini.verdict();
    assert.deepEqual([inUrl, refused], [0, 0]);
    await Promise.all([gemini.end(), process_.end()]);
  });

  it("generates, chats and streams", async () => {
    const answer = await ai.models.generateContent({ model: MODEL, contents: "one" });
    assert.match(answer.text ?? "", /one/);
    const chat = ai.chats.create({ model: MODEL });
    assert.match((await chat.sendMessage({ message: "two" })).text ?? "", /two/);
    let text = "";
    for await (const event of await ai.models.generateContentStream({ model: MODEL, contents: "three four" })) {
      text += event.text ?? "";
    }
    assert.match(text, /three four/);
  });

  it("embeds and counts, and lists models", async () => {
    const embedded = await ai.models.embedContent({ model: "gemini-embedding-001", contents: ["a", "b"] });
    assert.equal(embedded.embeddings?.length, 2);
    assert.ok(((await ai.models.countTokens({ model: MODEL, contents: "count me" })).totalTokens ?? 0) > 0);
    assert.ok((await ai.models.get({ model: MODEL })).name?.includes(MODEL));
    assert.ok(Array.isArray((await ai.models.list()).page));
  });

  it("shows Google's own errors", async () => {
    await gemini.faults({ fault: { kind: "error", name: "bad_request" }, count: 1 });
    await assert.rejects(
      ai.models.generateContent({ model: MODEL, contents: "x" }),
      (error: unknown) => error instanceof ApiError && error.status === 400,
    );
  });

  it("uses a file with the project that it was uploaded to", async (test) => {
    if ((await fetch(`${gemini.url}/v1beta/files`, { headers: { "x-goog-api-key": "fake-key-0000" } })).status === 404) {
      test.skip("this fake Gemini knows no files");
      return;
    }
    const file = await ai.files.upload({ file: new Blob(["some text"]), config: { mimeType: "text/plain" } });
    assert.ok(file.name !== undefined && file.uri !== undefined && file.mimeType !== undefined);
    for (let round = 0; round < 6; round++) {
      const parts = [{ text: "what is it?" }, { fileData: { fileUri: file.uri, mimeType: file.mimeType } }];
      assert.ok((await ai.models.generateContent({ model: MODEL, contents: [{ role: "user", parts }] })).text);
      assert.equal((await ai.files.get({ name: file.name })).name, file.name);
    }
    await ai.files.delete({ name: file.name });
  });

  it("interacts, and sends each request once", async (test) => {
    const probe = await fetch(`${gemini.url}/v1beta/interactions`, { method: "POST", headers: { "x-goog-api-key": "fake-key-0000" }, body: "{}" });
    if (probe.status === 404 && !(await probe.text()).includes("model")) {
      test.skip("this fake Gemini knows no interactions");
      return;
    }
    const interaction = await ai.interactions.create({ model: MODEL, input: "interact" });
    assert.match(JSON.stringify(interaction), /interact/);
    const before_ = (await gemini.verdict()).calls;
    await gemini.faults({ match: { method: "interactions" }, fault: { kind: "error", name: "bad_request" } });
    await assert.rejects(ai.interactions.create({ model: MODEL, input: "x" }));
    assert.equal((await gemini.verdict()).calls, before_ + 1);
  });

  it("works in the version before as well", async () => {
    const httpOptions = { baseUrl: gemini.url, fetch: broker.fetch({ baseUrl: gemini.url }) };
    const old = new GoogleGenAI2({ apiKey: PLACEHOLDER_KEY, httpOptions });
    assert.match((await old.models.generateContent({ model: MODEL, contents: "old" })).text ?? "", /old/);
    let events = 0;
    for await (const event of await old.models.generateContentStream({ model: MODEL, contents: "old stream" })) {
      events += event.text === undefined ? 0 : 1;
    }
    assert.ok(events > 1);
  });

  it("is a client of the official class, with no key inside", () => {
    assert.ok(ai instanceof GoogleGenAI);
    assert.ok(!JSON.stringify(ai).includes("fake-key-"));
  });
});
