/** Runs what the README shows. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";

import { BrokerProcess, Gemini } from "./stage.js";

const README = new URL("../README.md", import.meta.url);

describe("the README", () => {
  let gemini: Gemini;
  let broker: BrokerProcess;
  before(async () => {
    [gemini, broker] = await Promise.all([
      Gemini.start(1),
      BrokerProcess.start({ pool: "limits = [{ requests_per_minute = 100, in_flight = 10 }]" }),
    ]);
  });
  after(() => Promise.all([gemini.end(), broker.end()]));

  const snippets = [...readFileSync(README, "utf8").matchAll(/```js\n(.*?)```/gs)].map(([, code = ""]) => code);
  assert.ok(snippets.length >= 4);
  snippets.forEach((code, number) => {
    it(`snippet ${number + 1} runs, ends by itself and leaves no lease`, { timeout: 20_000 }, async () => {
      const child = spawn(
        process.execPath,
        ["--input-type=module", "--eval", code.replaceAll("127.0.0.1:50051", broker.address)],
        {
          cwd: new URL("..", import.meta.url),
          env: { ...process.env, GOOGLE_GEMINI_BASE_URL: gemini.url },
          stdio: ["ignore", "ignore", "pipe"],
        },
      );
      let errors = "";
      child.stderr.on("data", (text) => {
        errors += String(text);
      });
      const code_ = await new Promise((resolve) => child.once("exit", resolve));
      assert.equal(code_, 0, errors);
      const { granted, settled } = await broker.counters();
      assert.ok(granted > 0 && settled === granted, `${settled} of ${granted} settled`);
    });
  });
});
